import os
from pathlib import Path

import pytest

from bethrou.config import (
    ClientConfig,
    ExitEntry,
    HostPort,
    LogFormat,
    LogLevel,
    ResolverChoice,
    Strategy,
    load_client_config,
    node_config,
)
from bethrou.errors import ConfigError

ID_A = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
ID_B = "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU"
NODES = f"nodes:\n  - addrs: [/ip4/127.0.0.1/tcp/4000/p2p/{ID_A}]\n"
SECRET = "hunter2-swordfish"

GO_EXAMPLE = f"""\
key: "network.key"

server:
  listen: "127.0.0.1:1080"
  auth: false
  user: ""
  pass: ""

routing:
  strategy: fastest
  health: 30s
  timeout: 10s

nodes:
  - id: {ID_A}
    addrs:
      - /ip4/192.168.1.100/tcp/4000/p2p/{ID_A}
    relay: ""
  - id: {ID_B}
    relay: /ip4/198.51.100.10/tcp/4000/p2p/{ID_A}

discovery:
  enabled: false
  address: "redis://localhost:6379"
  topic: "bethrou-nodes"
  timeout: "5s"
  user: ""
  pass: ""

log:
  level: debug
  format: json
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str | bytes) -> ClientConfig:
        data = text if isinstance(text, bytes) else text.encode()
        Path("client.yaml").write_bytes(data)
        config = load_client_config("client.yaml")
        assert Path("client.yaml").read_bytes() == data
        return config

    return load


@pytest.fixture
def refusal(load):
    def refusal(text: str | bytes) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text)
        message = str(caught.value)
        assert message.isprintable()
        assert message.startswith("client.yaml: ")
        return message.removeprefix("client.yaml: ")

    return refusal


def test_a_file_of_the_go_program_loads(load) -> None:
    config = load(GO_EXAMPLE)
    assert config.key == Path("network.key")
    assert config.server.listen == HostPort("127.0.0.1", 1080)
    assert config.server.credentials == {}
    assert config.routing.strategy is Strategy.FASTEST
    assert (config.routing.health, config.routing.timeout) == (30, 10)
    assert [str(entry.peer_id) for entry in config.nodes] == [ID_A, ID_B]
    assert config.nodes[0].relay is None
    assert not config.discovery.enabled
    assert config.discovery.timeout == 5
    assert (config.log.level, config.log.format) == (LogLevel.DEBUG, LogFormat.JSON)


def test_only_nodes_are_needed(load) -> None:
    config = load(NODES)
    assert config.key is None
    assert config.server.listen == HostPort("127.0.0.1", 1080)
    assert config.routing.strategy is Strategy.RANDOM
    assert config.routing.pool == 8
    assert (config.half_close_wait, config.grace) == (10, 30)
    assert (config.log.level, config.log.format) == (LogLevel.INFO, LogFormat.TEXT)
    assert not config.log.hide_destinations


def test_empty_blocks_and_values_mean_the_defaults(load) -> None:
    text = NODES + "key:\nserver:\nrouting:\n  strategy: ''\n  health: ~\ndiscovery: ~\nlog:\n  level: ''\n"
    assert load(text) == load(NODES)


def test_our_own_keys(load) -> None:
    config = load(
        NODES
        + "server:\n  listen: :1080\n  users:\n    alice: s3cret\n    bob: 0123\n"
        + "routing: {strategy: latency, pool: 3, health: 0}\nhalf_close_wait: 1m30s\ngrace: 5\n"
        + "log: {level: WARNING, format: Text, hide_destinations: yes}\n"
    )
    users = {name: word.get_secret_value() for name, word in config.server.credentials.items()}
    assert users == {"alice": "s3cret", "bob": "0123"}
    assert config.routing.strategy is Strategy.FASTEST
    assert (config.routing.pool, config.routing.health) == (3, 0)
    assert (config.half_close_wait, config.grace) == (90, 5)
    assert config.log.level is LogLevel.WARN
    assert config.log.hide_destinations


@pytest.mark.parametrize(
    ("auth", "users"), [("", ["eve"]), ("  auth: true\n", ["eve"]), ("  auth: false\n", [])]
)
def test_a_user_with_a_password_counts_unless_auth_is_false(load, auth: str, users: list[str]) -> None:
    assert list(load(NODES + f"server:\n{auth}  user: eve\n  pass: x\n").server.credentials) == users


def test_bom_and_crlf_are_accepted(load) -> None:
    assert load(b"\xef\xbb\xbf" + GO_EXAMPLE.replace("\n", "\r\n").encode()) == load(GO_EXAMPLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "routing: {strategy: fastst}",
            'routing.strategy: "fastst" is not one of random, round-robin, fastest, ordered, least-loaded, sticky,'
            ' latency (did you mean "fastest"?)',
        ),
        ("routing: {stratgy: random}", 'routing.stratgy: unknown key (did you mean "strategy"?)'),
        ("routing: {strategy: [random]}", "routing.strategy: must be one of random, round-robin"),
        (
            "routing: {xyz: 1}",
            "routing.xyz: unknown key; known are health, pool, sticky_by, strategy, timeout",
        ),
        ("listen: 127.0.0.1:1", "listen: unknown key (did you mean server.listen?)"),
        ("server: {password: x}", 'server.password: unknown key (did you mean "pass"?)'),
        ("routing: {pool: many}", 'routing.pool: must be a whole number, not "many"'),
        ("routing: {pool: 0}", 'routing.pool: must be at least 1, not "0"'),
        ("routing: {health: soon}", 'routing.health: "soon" is no duration (write 30s, 1m30s'),
        ("routing: {health: -5s}", 'routing.health: "-5s" must not be negative'),
        ("routing: {timeout: 0}", "routing.timeout: must be more than 0, not 0.0"),
        ("server: [1, 2]", "server: must be a block of keys, not a list of 2"),
        ("server: {listen: 1080}", 'server.listen: "1080" has no port (write HOST:PORT'),
        ("server: {open: maybe}", 'server.open: must be true or false, not "maybe"'),
        ("server: {auth: true}", "server: auth needs both user and pass"),
        ("server: {user: eve}", "server: auth needs both user and pass"),
        (
            "server: {listen: 0.0.0.0:1080}",
            'server: listen "0.0.0.0:1080" can be reached from other machines',
        ),
        ("server: {users: {'a,b': x}}", 'server.users: user "a,b" must not contain , or ='),
        ("server: {users: [x]}", "server.users: must be a block of keys"),
        ("discovery: {enabled: true}", "discovery: enabled needs an address"),
        ("log: {level: loud}", 'log.level: "loud" is not one of debug, info, warn, error, warning'),
        ("log: {level: inf}", '(did you mean "info"?)'),
        ("log: {format: 7}", 'log.format: "7" is not one of text, json'),
        ("grace: [5]", "grace: must be a duration"),
        ("key: {a: b}", "key: must be a file name, not a block of keys"),
        ('"\\x1b[2J": 1', "\\x1b[2J: unknown key"),
        (
            "a: 1\nb: 2",
            "a: unknown key; known are discovery, grace, half_close_wait, identity, key, log, members",
        ),
        ("a: 1\nb: 2", "(and 1 more problem)"),
    ],
)
def test_a_wrong_value_is_named(refusal, text: str, message: str) -> None:
    assert message in refusal(NODES + text + "\n")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("{}", "nodes[0]: addrs or relay is needed"),
        ("~", "nodes[0]: must be a block of keys, not empty"),
        (f"{{id: {ID_A}}}", "nodes[0]: addrs or relay is needed"),
        ("{addrs: [/ip4/1.2.3.4/tcp/1]}", "nodes[0]: id is needed, or an address that ends in /p2p/ID"),
        (f"{{addrs: [/ip4/1.2.3.4/tcp/1/p2p/{ID_A}], id: {ID_B}}}", "nodes[0]: id and addrs name different"),
        (f"{{id: {ID_A}, addrs: [1.2.3.4:4000]}}", "nodes[0].addrs[0]: '1.2.3.4:4000' is no multiaddr"),
        (f"{{id: {ID_A}, addrs: ['1.2.3.4:4000']}}", "(did you mean /ip4/1.2.3.4/tcp/4000?)"),
        (f"{{id: {ID_A}, addrs: ['exit.example:4000']}}", "(did you mean /dns4/exit.example/tcp/4000?)"),
        (f"{{id: {ID_A}, addrs: /ip4/1.2.3.4/tcp/1}}", 'nodes[0].addrs: must be a list, not "/ip4'),
        ("{id: 12D3Koo, addrs: [/ip4/1.2.3.4/tcp/1]}", "nodes[0].id: '12D3Koo' is no peer ID"),
        (f"{{id: {ID_A}, relay: /ip4/1.2.3.4/tcp/1}}", "nodes[0]: relay must be the relay's own address"),
        (f"{{id: {ID_A}, adrs: []}}", 'nodes[0].adrs: unknown key (did you mean "addrs"?)'),
    ],
)
def test_a_wrong_node_is_named(refusal, node: str, message: str) -> None:
    assert message in refusal(f"nodes:\n  - {node}\n")


def test_the_same_exit_twice_is_refused(refusal) -> None:
    entry = f"  - addrs: [/ip4/127.0.0.1/tcp/4000/p2p/{ID_A}]\n"
    assert "nodes[1]: the same peer as nodes[0]" in refusal("nodes:\n" + entry * 2)


def test_no_exits_at_all_are_refused(refusal, load) -> None:
    assert refusal("grace: 5\n") == "nodes: no exit node is given and discovery is off"
    assert load("discovery: {enabled: true, address: 'redis://r:6379'}\n").nodes == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- a\n", "must consist of keys such as nodes:, not of a list of 1"),
        (b"just words\n", 'not of "just words"'),
        (b"a: 1\nb: \xff\n", "line 2: is not UTF-8 text"),
        ("nodes: []".encode("utf-16"), "line 1: is not UTF-8 text"),
        (b"a: 1\nb: c: d\n", "line 2: not valid YAML"),
        (b"a: " + b"x" * (1 << 20), "is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration(refusal, data: bytes, message: str) -> None:
    assert message in refusal(data)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load_client_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_client_config(tmp_path)
    with pytest.raises(ConfigError, match="is no file name"):
        load_client_config("a\0b")


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, NODES.encode())
    os.close(writing)
    assert len(load_client_config(f"/dev/fd/{reading}").nodes) == 1
    os.close(reading)


SECRET_PLACES = [
    "server: {user: eve, pass: %s}",
    "server: {users: {eve: %s}}",
    "discovery: {pass: %s, address: 'redis://u:%s@h'}",
]


@pytest.mark.parametrize("place", SECRET_PLACES)
def test_passwords_stay_out_of_every_text(load, place: str) -> None:
    config = load(NODES + place.replace("%s", SECRET) + "\n")
    assert SECRET not in f"{config} {config!r} {config.model_dump()} {config.model_dump_json(fallback=str)}"


@pytest.mark.parametrize(
    "text",
    [
        "server: {user: eve, pass: {%s: 1}}",
        "server: {user: eve, pass: [%s]}",
        "server: {pass: %s}",
        "server: {users: %s}",
        "server: {users: [%s]}",
        "server: {users: {eve: [%s]}}",
        "server: {users: {eve: {%s: x}}}",
        "server: {users: {'a=b': %s}}",
        "server: {listen: ':1', pas: %s}",
        "server: {user: eve, pass: *%s}",
        "server: {user: eve, pass: !%s}",
        "server: {user: eve, pass: %s, pass: %s}",
        "server: {user: eve, pass: %s, open: %%}",
        "discovery: {address: [%s]}",
        "discovery: {pass: {%s: x}, enabled: 7}",
    ],
)
def test_passwords_stay_out_of_every_error(refusal, text: str) -> None:
    assert SECRET not in refusal(NODES + text.replace("%s", SECRET) + "\n")


def test_a_node_has_defaults() -> None:
    config = node_config({})
    assert [str(address) for address in config.listen] == ["/ip4/0.0.0.0/tcp/4000"]
    assert (config.key, config.identity) == (None, Path("node.key"))
    assert (config.allow, config.deny, config.resolver) == ((), (), ResolverChoice())
    assert (config.grace, config.name, config.tags, config.relay_mode) == (30, None, (), False)
    assert config.auto_relay


def test_a_nodes_options_are_parsed() -> None:
    config = node_config(
        {
            "listen": ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"],
            "allow": ["127.0.0.0/8", "[::1]:80"],
            "deny": ["10.0.0.0/8:22"],
            "resolver": ["127.0.0.1:5353"],
            "grace": "1m",
            "name": "paris-1",
            "tags": ["eu"],
            "log": {"level": "debug"},
        }
    )
    assert [str(rule) for rule in config.allow] == ["127.0.0.0/8", "[::1/128]:80"]
    assert [str(rule) for rule in config.deny] == ["10.0.0.0/8:22"]
    assert [str(server) for server in config.resolver.servers] == ["127.0.0.1:5353"]
    assert config.grace == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"listen": ["0.0.0.0:4000"]}, "--listen: '0.0.0.0:4000' is no multiaddr"),
        ({"listen": []}, "--listen: must be a list of at least 1"),
        ({"allow": ["10.0.0.1/8"]}, '--allow: "10.0.0.1/8" is no network: it has bits set'),
        ({"resolver": ["system", "::1"]}, "--resolver: system cannot be combined"),
        ({"name": "a b"}, '--name: "a b" must have 1 to 64 characters'),
        ({"log": {"level": "x"}}, '--log-level: "x" is not one of'),
        ({"connect_relay": ["nonsense"]}, "--connect-relay: 'nonsense' is no multiaddr"),
        ({"relay_rate": "10 parsecs"}, '--relay-rate: "10 parsecs" is no number of bytes'),
        ({"relay_circuits": "many"}, "--relay-circuits: must be a whole number"),
        ({"relay_data": True}, "--relay-data: must be a number of bytes"),
        ({"grace": -1}, "--grace: "),
        ({"grace": float("nan")}, "--grace: must be a finite duration"),
        ({"grace": True}, "--grace: must be a duration"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        node_config(options)
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()


def test_a_configuration_is_frozen() -> None:
    config = node_config({})
    with pytest.raises(ValueError, match="frozen"):
        config.grace = 5  # type: ignore[misc]


def test_what_a_relay_may_carry() -> None:
    config = node_config(
        {"relay_mode": True, "relay_rate": "10MB", "relay_circuit_rate": 65536, "relay_duration": "2m"}
    )
    assert (config.relay_rate, config.relay_circuit_rate, config.relay_duration) == (10_000_000, 65_536, 120)
    assert (config.relay_data, config.relay_reservations) == (0, 2048)


def test_the_ways_to_an_exit_end_with_its_relay() -> None:
    relay = f"/ip4/198.51.100.10/tcp/4000/p2p/{ID_A}"
    entry = ExitEntry.model_validate({"id": ID_B, "addrs": ["/ip4/192.0.2.1/tcp/1"], "relay": relay})
    assert [str(address) for address in entry.ways] == ["/ip4/192.0.2.1/tcp/1", f"{relay}/p2p-circuit"]
    assert ExitEntry.model_validate({"id": ID_B, "relay": relay}).ways[0].is_circuit
