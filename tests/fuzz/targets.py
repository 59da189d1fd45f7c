"""What is fuzzed: everything that reads bytes of others. Each target takes any bytes.

It may raise only what its part promises to raise for bad input, which is caught here; anything else is a find, and so
is an answer that contradicts itself: what was decoded must encode to something that decodes to the same.
Conversations are fed in pieces, whose sizes the first byte of the input chooses.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bethrou.config import ClientConfig, NodeConfig
from bethrou.config.load import check
from bethrou.config.yaml_text import read_yaml
from bethrou.errors import (
    AddressError,
    ConfigError,
    InviteError,
    KeyFileError,
    MuxerError,
    PeerError,
    RequestError,
)
from bethrou.wire import (
    announcement,
    autonat,
    circuit,
    dcutr,
    envelope,
    grant,
    http_request,
    identify,
    invite,
    member_exchange,
    member_list,
    multistream,
    node_record,
    peer_record,
    proxy_request,
    varint,
)
from bethrou.wire.announcement_keys import AnnouncementKeys
from bethrou.wire.json_reader import JsonObjectReader, PrefixedJsonReader
from bethrou.wire.keys import Identity
from bethrou.wire.members_message import RecordReader
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.noise.secure_channel import HandshakePayload, NoiseChannel
from bethrou.wire.psk import NetworkKey
from bethrou.wire.request_dialog import GoRequestDialog, RequestDialog
from bethrou.wire.socks4 import Socks4Server
from bethrou.wire.socks5 import Credentials, Socks5Server
from bethrou.wire.state_message import StateMessage
from bethrou.wire.tls.certificate import proven_identity
from bethrou.wire.user_name import UserName
from bethrou.wire.websocket import frames
from bethrou.wire.websocket.handshake import ClientHandshake, RequestRefused, ServerHandshake
from bethrou.wire.yamux.session import Session
from bethrou.wire.yamux.window import WindowBudget

Target = Callable[[bytes], None]

IDENTITY = Identity.generate(lambda size: bytes(range(size)))
KEYS = AnnouncementKeys(NetworkKey(bytes(32)))
STATIC = X25519PrivateKey.from_private_bytes(bytes(range(32)))
EPHEMERAL = X25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
MAX_STREAMS = 64


def pieces(data: bytes) -> Iterator[bytes]:
    """All but the first byte, in pieces of the size that it says (0: in one)."""
    size = data[0] if data else 0
    rest = data[1:]
    if not size:
        yield rest
        return
    for start in range(0, len(rest), size):
        yield rest[start : start + size]


def fuzz_multistream(data: bytes) -> None:
    for role in (multistream.Listener(lambda name: len(name) % 2 == 0), multistream.Dialer(["/a/1", "/b/1"])):
        try:
            for piece in pieces(data):
                if role.receive(piece) is not None:
                    assert len(role.surplus) <= len(data)
                    break
        except PeerError:
            pass
        assert len(role.data_to_send()) <= 64 * (len(data) + 64)


def fuzz_noise(data: bytes) -> None:
    for initiator in (False, True):
        channel = NoiseChannel(
            IDENTITY,
            initiator=initiator,
            expected=None,
            muxers=["/yamux/1.0.0"],
            static=lambda: STATIC,
            ephemeral=lambda: EPHEMERAL,
        )
        if initiator:
            channel.start()
        try:
            for piece in pieces(data):
                channel.receive(piece)
        except PeerError:
            pass
        assert channel.session is None  # nobody can know the keys
    try:
        payload = HandshakePayload.decode(data)
    except PeerError:
        return
    assert HandshakePayload.decode(payload.encode()) == payload


def fuzz_yamux(data: bytes) -> None:
    session = Session(client=bool(data[:1] < b"\x80"), max_inbound=MAX_STREAMS, budget=WindowBudget())
    ours = session.open()
    ours.take_flags()
    try:
        for piece in pieces(data):
            for _ in session.receive(memoryview(piece)):
                assert session.inbound <= MAX_STREAMS
                assert len(session.streams) <= MAX_STREAMS + 1
    except MuxerError:
        pass


def fuzz_multiaddr(data: bytes) -> None:
    try:
        address = Multiaddr.decode(data)
    except PeerError:
        pass
    else:
        assert Multiaddr.decode(address.encode()) == address
        assert Multiaddr.parse(str(address)) == address
        _use(address)
    try:
        address = Multiaddr.parse(data.decode("utf-8", "surrogateescape"))
    except AddressError:
        return
    assert Multiaddr.parse(str(address)) == address
    assert Multiaddr.decode(address.encode()) == address
    _use(address)


def _use(address: Multiaddr) -> None:
    assert address.without_peer().parts[-1][0] != "p2p" or len(address.without_peer().parts) == 1
    assert address.host is None or address.host
    assert address.tcp_port is None or 0 <= address.tcp_port < 65536


def fuzz_identify(data: bytes) -> None:
    try:
        statement = identify.decode(data)
        identify.believable_addresses(statement, IDENTITY.peer_id)
        again = identify.decode(statement.encode())
    except PeerError:
        return
    assert again.protocols == statement.protocols
    assert again.listen_addrs == statement.listen_addrs


def fuzz_circuit(data: bytes) -> None:
    for kind in (circuit.HopMessage, circuit.StopMessage, circuit.Reservation, circuit.Limit):
        try:
            message = kind.decode(data)
        except PeerError:
            continue
        encoded = message.encode()
        if kind in (circuit.HopMessage, circuit.StopMessage):  # with their length in front
            size, start = varint.decode(encoded)
            assert size == len(encoded) - start
            encoded = encoded[start:]
        assert kind.decode(encoded) == message
    _opened(circuit.Voucher.open, data)
    for kind_ in dcutr.Kind:
        try:
            punch = dcutr.decode(data, kind_)
        except PeerError:
            continue
        assert len(punch.addresses) <= len(data)


def fuzz_autonat(data: bytes) -> None:
    try:
        message = autonat.decode(data)
    except PeerError:
        pass
    else:
        if not isinstance(message, autonat.DialRequest) or None not in message.addresses:
            assert autonat.decode(message.encode()) == message
    try:
        nonce = autonat.decode_dial_back(data)
    except PeerError:
        return
    assert autonat.decode_dial_back(autonat.encode_dial_back(nonce)) == nonce


def fuzz_socks(data: bytes) -> None:
    for server in (
        Socks5Server(allow_anonymous=bool(len(data) % 2)),
        Socks4Server(allow_anonymous=bool(len(data) % 2)),
    ):
        for piece in pieces(data):
            event = server.receive(piece)
            if isinstance(event, Credentials):
                event = server.answer_credentials(bool(event.password))
            if event is not None:
                assert len(server.surplus) <= len(data)
                break
        assert len(server.data_to_send()) <= 1024


def fuzz_http(data: bytes) -> None:
    """A request to the client's port."""
    scanner, seen = http_request.HeadScanner(), b""
    try:
        for piece in pieces(data):
            seen += piece
            if size := scanner.find(seen):
                _, request = http_request.read_head(seen[:size])
                http_request.basic_credentials(request)
                http_request.wanted_upgrade(request)
                if request.method == b"CONNECT":
                    http_request.connect_target(request)
                else:
                    http_request.headers_for_origin(request, http_request.forward_target(request))
                return
    except (http_request.HttpRefused, RequestError):
        return


def fuzz_websocket(data: bytes) -> None:
    """The handshake in both roles, and frames."""
    try:
        answer = ServerHandshake("/path").answer(data)
        assert answer.startswith(b"HTTP/1.1 101 ")
    except RequestRefused as error:
        assert error.answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505 "))
    except PeerError:
        pass
    client = ClientHandshake("example.com", 443, "/path", tls=True)
    client.request()
    with contextlib.suppress(PeerError, RequestRefused):
        client.check(data)
    for masked in (True, False):
        reader = frames.FrameReader(masked)
        try:
            for piece in pieces(data):
                view = memoryview(bytearray(piece))
                while view:
                    taken = reader.take(view)
                    assert taken.size > 0 or taken.opcode is not None
                    view = view[taken.size :]
        except PeerError:
            pass


def fuzz_request(data: bytes) -> None:
    """Proxy requests and answers, of both versions, and what exits say of their state."""
    for reader in (JsonObjectReader(), PrefixedJsonReader()):
        try:
            for piece in pieces(data):
                message = reader.receive(piece)
                if message is not None:
                    _read(message)
                    break
        except PeerError:
            pass
    request = proxy_request.ProxyRequest("example.com", 443, "00" * 8, None)
    for dialog in (RequestDialog(request), GoRequestDialog(request, known=True)):
        dialog.data_to_send()
        try:
            for piece in pieces(data):
                dialog.receive(piece)
        except PeerError:
            pass


def _read(message: dict[str, object]) -> None:
    for decode in (
        proxy_request.decode_request_v1_0,
        proxy_request.decode_request_v1_1,
        proxy_request.decode_answer_v1_0,
        proxy_request.decode_answer_v1_1,
        StateMessage.decode,
    ):
        try:
            decode(message)
        except (PeerError, RequestError):
            continue


def fuzz_record(data: bytes) -> None:
    """Signed records: the envelope, and what is in one that is signed as it should be."""
    for open_ in (node_record.NodeRecord.open, peer_record.PeerRecord.open, circuit.Voucher.open):
        try:
            open_(data)
        except PeerError:
            continue
    for domain, payload_type, open_ in (
        (node_record.DOMAIN, node_record.PAYLOAD_TYPE, node_record.NodeRecord.open),
        (peer_record.DOMAIN, peer_record.PAYLOAD_TYPE, peer_record.PeerRecord.open),
    ):
        try:
            record = open_(envelope.seal(IDENTITY, domain, payload_type, data))
        except PeerError:
            continue
        assert open_(record.seal(IDENTITY)) == record
    reader = RecordReader()
    try:
        for piece in pieces(data):
            reader.receive(piece)
        reader.eof()
    except PeerError:
        return


def fuzz_announcement(data: bytes) -> None:
    try:
        announcement.decode(data, KEYS)
    except PeerError:
        return


def fuzz_membership(data: bytes) -> None:
    """Invites, grants, admissions and member lists, signed as they should be and not; and how they travel."""
    operator = IDENTITY.peer_id
    opened: tuple[tuple[str, bytes, Callable[[bytes], object]], ...] = (
        ("bethrou-grant", b"/bethrou/grant", lambda each: grant.Grant.open(each, operator)),
        ("bethrou-admission", b"/bethrou/admission", lambda each: grant.Admission.open(each, operator)),
        (
            "bethrou-member-list",
            b"/bethrou/member-list",
            lambda each: member_list.MemberList.open(each, operator),
        ),
        ("bethrou-invite", b"/bethrou/invite", _open_link),
    )
    for domain, payload_type, open_ in opened:
        for each in (data, envelope.seal(IDENTITY, domain, payload_type, data)):
            with contextlib.suppress(PeerError, InviteError):
                found = open_(each)
                if isinstance(found, member_list.MemberList | grant.Grant):
                    assert open_(found.seal(IDENTITY)) == found
    reader = member_exchange.MessageReader(admissions=4)
    with contextlib.suppress(PeerError):
        header = None
        for piece in pieces(data):
            reader.receive(piece)
            header = header or reader.header()
            while header is not None and reader.item():
                continue


def _open_link(data: bytes) -> invite.Invite:
    return invite.Invite.open(invite.SCHEME + base64.urlsafe_b64encode(data).decode())


def fuzz_certificate(data: bytes) -> None:
    try:
        proven_identity(data, 1.8e9)
    except PeerError:
        return


def fuzz_config(data: bytes) -> None:
    """client.yaml, node.yaml, key files and user names."""
    for parse in (NetworkKey.parse, Identity.parse):
        try:
            parse(data)
        except KeyFileError:
            continue
    with contextlib.suppress(PeerError):
        UserName.parse(data)
    try:
        read = read_yaml(data.decode("utf-8", "replace"))
    except ConfigError:
        return
    if not isinstance(read, dict):
        return
    for model in (ClientConfig, NodeConfig):
        try:
            check(model, read, "")
        except ConfigError as error:
            assert "\n" not in str(error)


def _opened(open_: Callable[[bytes], object], data: bytes) -> None:
    try:
        open_(data)
    except PeerError:
        return


TARGETS: dict[str, Target] = {
    name.removeprefix("fuzz_"): function
    for name, function in globals().copy().items()
    if name.startswith("fuzz_")
}
