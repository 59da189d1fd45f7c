from ipaddress import ip_address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bethrou.proxy.hosts_file import MAX_AGE, HostsFile, parse_hosts

HOSTS = b"""\
# a comment
127.0.0.1\tlocalhost  Alias # localhost is not asked for here
::1 localhost
fe80::1%lo0 localhost
192.0.2.1 one.test # no-alias.test
192.0.2.1 one.test
192.0.2.2
127.1 odd.test
nonsense nonsense.test
\xff\xfe bytes.test
"""


def test_names_and_aliases_are_read_and_everything_else_is_skipped() -> None:
    assert parse_hosts(HOSTS) == {
        "localhost": (ip_address("127.0.0.1"), ip_address("::1")),
        "alias": (ip_address("127.0.0.1"),),
        "one.test": (ip_address("192.0.2.1"),),
    }


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    for name, addresses in parse_hosts(data).items():
        assert name
        assert addresses


def test_a_change_is_seen_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    now = 100.0
    hosts = HostsFile(path, lambda: now)
    assert hosts.addresses("a.test") == ()
    path.write_text("192.0.2.1 a.test\n")
    assert hosts.addresses("a.test") == ()
    now += MAX_AGE
    assert hosts.addresses("a.test") == (ip_address("192.0.2.1"),)
    path.rename(tmp_path / "elsewhere")
    now += MAX_AGE
    assert hosts.addresses("a.test") == ()


def test_a_directory_has_no_names(tmp_path: Path) -> None:
    assert HostsFile(tmp_path, lambda: 0.0).addresses("a.test") == ()
