"""Links: what they say, and that a changed, cut or foreign one says nothing."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import InviteError
from bethrou.wire import protobuf
from bethrou.wire.envelope import seal
from bethrou.wire.invite import MAX_ADDRESSES, MAX_LINK, SCHEME, Invite
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey
from live.operator import ADDRESS, DEVICE, KEY, NODE_A, OPERATOR, OTHER_OPERATOR, SECRET, THIEF, grant

GRANT = grant()
ADDRESSES = (ADDRESS, Multiaddr.parse(f"/dns4/exit.example/tcp/443/p2p/{NODE_A.peer_id}"))
LINK = Invite.seal(OPERATOR, KEY, SECRET, GRANT.seal(OPERATOR), ADDRESSES, "home")


def payload(
    key: bytes = KEY.raw,
    secret: bytes = SECRET.seed,
    granted: bytes = GRANT.seal(OPERATOR),
    addresses: tuple[bytes, ...] = (ADDRESS.encode(),),
) -> bytes:
    return (
        protobuf.blob(1, key)
        + protobuf.blob(2, secret)
        + protobuf.blob(3, granted)
        + b"".join(protobuf.blob(4, address) for address in addresses)
    )


def signed(data: bytes, by: Identity = OPERATOR, domain: str = "bethrou-invite") -> str:
    envelope = seal(by, domain, b"/bethrou/invite", data)
    return SCHEME + base64.urlsafe_b64encode(envelope).decode().rstrip("=")


def test_a_link_says_what_it_was_made_of() -> None:
    invite = Invite.open(LINK)
    assert invite.operator == OPERATOR.peer_id
    assert invite.network_key == KEY
    assert invite.secret.peer_id == SECRET.peer_id
    assert (invite.grant, invite.addresses, invite.network_name) == (GRANT, ADDRESSES, "home")
    assert len(LINK) < 800
    assert LINK.isascii()
    assert Invite.seal(OPERATOR, KEY, SECRET, GRANT.seal(OPERATOR), ADDRESSES, "home") == LINK


def test_blanks_and_line_breaks_do_not_matter() -> None:
    broken = "  " + "\n".join(LINK[start : start + 76] for start in range(0, len(LINK), 76)) + "\r\n"
    assert Invite.open(broken) == Invite.open(LINK)
    assert Invite.open("BETHROU://JOIN/" + LINK.removeprefix(SCHEME)) == Invite.open(LINK)


def test_secrets_are_not_shown() -> None:
    shown = repr(Invite.open(LINK))
    assert not any(
        secret in shown for secret in (KEY.raw.hex(), repr(KEY.raw), SECRET.seed.hex(), "envelope")
    )


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("", "this is no invite"),
        ("https://example.com/", "this is no invite"),
        (SCHEME, "damaged"),
        (SCHEME + "A", "damaged"),
        (SCHEME + "äöü", "damaged"),
        (LINK[:-1], "damaged"),
        (LINK[:-20], "damaged"),
        (LINK[:400], "damaged"),
        (LINK + "AAAA", "damaged"),
        (LINK + LINK, "damaged"),
        ("x" * (MAX_LINK + 1), "more than"),
        (signed(payload(), domain="bethrou-grant"), "damaged"),
        (signed(payload(key=KEY.raw[:31])), "damaged"),
        (signed(payload(secret=b"")), "damaged"),
        (signed(payload(key=bytes(32))), "damaged"),  # the grant is to another network
        (signed(payload(secret=THIEF.seed)), "damaged"),  # the grant has another key
        (signed(payload(granted=GRANT.seal(OTHER_OPERATOR))), "damaged"),
        (signed(payload(addresses=())), "damaged"),
        (signed(payload(addresses=(Multiaddr.parse("/ip4/1.2.3.4/tcp/1").encode(),))), "damaged"),
        (signed(payload(addresses=(b"\xff\xff",))), "damaged"),
        # somebody who has the link has its grant, but signs as somebody else
        (signed(payload(), by=THIEF), "damaged"),
    ],
)
def test_what_is_no_good_is_said_in_one_line(link: str, reason: str) -> None:
    with pytest.raises(InviteError, match=reason) as caught:
        Invite.open(link)
    assert len(str(caught.value).splitlines()) == 1
    assert KEY.raw.hex() not in str(caught.value)


def test_a_link_of_another_operator_is_a_link_to_another_network() -> None:
    other = NetworkKey(bytes(32))
    granted = grant(network=other.fingerprint)
    link = Invite.seal(OTHER_OPERATOR, other, SECRET, granted.seal(OTHER_OPERATOR), (ADDRESS,))
    invite = Invite.open(link)
    assert (invite.operator, invite.network_key) == (OTHER_OPERATOR.peer_id, other)


@pytest.mark.parametrize(
    "addresses", [(), (ADDRESS,) * (MAX_ADDRESSES + 1), (Multiaddr.parse("/ip4/1.2.3.4/tcp/1"),)]
)
def test_addresses_have_to_be_of_use(addresses: tuple[Multiaddr, ...]) -> None:
    with pytest.raises(ValueError, match="addresses"):
        Invite.seal(OPERATOR, KEY, SECRET, GRANT.seal(OPERATOR), addresses)


@given(st.data())
def test_a_changed_character_is_noticed(data: st.DataObject) -> None:
    place = data.draw(st.integers(len(SCHEME), len(LINK) - 1))
    character = data.draw(st.sampled_from("AZaz09-_"))
    changed = LINK[:place] + character + LINK[place + 1 :]
    with contextlib.suppress(InviteError):
        assert Invite.open(changed) == Invite.open(LINK)


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for link in (SCHEME + base64.urlsafe_b64encode(data).decode(), signed(data)):
        with contextlib.suppress(InviteError):
            Invite.open(link)


@given(st.text(max_size=200))
def test_any_text_is_refused_or_read(text: str) -> None:
    for link in (text, SCHEME + text):
        with contextlib.suppress(InviteError):
            Invite.open(link)


def test_a_device_is_no_part_of_a_link() -> None:
    assert str(DEVICE.peer_id) not in LINK
