"""AutoNAT v2: asking another peer whether we can be reached at an address (spec: libp2p/specs autonat/autonat-v2.md).

On `/libp2p/autonat/2/dial-request`, in both directions and each behind its length::

    Message          { oneof: dialRequest = 1, dialResponse = 2, dialDataRequest = 3, dialDataResponse = 4 }
    DialRequest      { addrs = 1 repeated bytes, nonce = 2 fixed64 }
    DialResponse     { status = 1 enum, addrIdx = 2 uint32, dialStatus = 3 enum }
    DialDataRequest  { addrIdx = 1 uint32, numBytes = 2 uint64 }
    DialDataResponse { data = 1 bytes }

On `/libp2p/autonat/2/dial-back`, without that wrapper, DialBack { nonce = 1 fixed64 } one way and
DialBackResponse { status = 1 enum } the other. It is proto3: zeros are left out, unknown enum values are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from bethrou.errors import DecodeError
from bethrou.wire import protobuf
from bethrou.wire.multiaddr import Multiaddr

DIAL_REQUEST = "/libp2p/autonat/2/dial-request"
DIAL_BACK = "/libp2p/autonat/2/dial-back"

MAX_MESSAGE = 8192
"""Longest message in bytes (go)."""

MAX_ADDRESSES = 50
"""Addresses of a request that are looked at (go)."""

MIN_DATA, MAX_DATA = 30_000, 100_000
"""Bytes that a server may ask for before it dials (spec): dialling must cost who asks more than who is dialled."""

MAX_DATA_CHUNK = 4096
"""Most bytes of data in one message (spec)."""

MIN_DATA_CHUNK = 100
"""Fewest bytes in one message, but the last (go): the same data must not be a hundred thousand messages."""

DIAL_BACK_RESPONSE = b""
"""DialBackResponse with its only status, OK = 0."""


class Status(IntEnum):
    """What became of a request."""

    E_INTERNAL = 0
    E_REQUEST_REJECTED = 100
    """The server has too much to do."""
    E_DIAL_REFUSED = 101
    """It dials none of the addresses."""
    OK = 200


class DialStatus(IntEnum):
    """What became of the dial."""

    UNUSED = 0
    E_DIAL_ERROR = 100
    """No connection came about: the address cannot be reached."""
    E_DIAL_BACK_ERROR = 101
    """There was a connection, but the nonce could not be handed over."""
    OK = 200


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Dial the first of these addresses that you dial at all, and show `nonce` there.

    An address that does not parse is None: the answer names addresses by their place.
    """

    addresses: tuple[Multiaddr | None, ...]
    nonce: int

    def encode(self) -> bytes:
        """Return the Message. ValueError where an address is None."""
        body = b""
        for address in self.addresses:
            if address is None:
                raise ValueError("only addresses that parse can be asked about")
            body += protobuf.blob(1, address.encode())
        return protobuf.blob(1, body + protobuf.fixed64(2, self.nonce))


@dataclass(frozen=True, slots=True)
class DialResponse:
    """The end of a request. `index` is the place of the address that was dialled."""

    status: int
    index: int = 0
    dial_status: int = DialStatus.UNUSED

    def encode(self) -> bytes:
        """Return the Message."""
        return protobuf.blob(2, _uints((1, self.status), (2, self.index), (3, self.dial_status)))


@dataclass(frozen=True, slots=True)
class DialDataRequest:
    """Send `size` bytes first, then the address at place `index` is dialled."""

    index: int
    size: int

    def encode(self) -> bytes:
        """Return the Message."""
        return protobuf.blob(3, _uints((1, self.index), (2, self.size)))


@dataclass(frozen=True, slots=True)
class DialDataResponse:
    """Some of the bytes that were asked for; what they are does not matter."""

    data: bytes

    def encode(self) -> bytes:
        """Return the Message."""
        return protobuf.blob(4, protobuf.blob(1, self.data))


Message = DialRequest | DialResponse | DialDataRequest | DialDataResponse


def decode(message: bytes) -> Message:
    """Read a Message; of several in one the last counts, as protobuf has it. Raises DecodeError."""
    if len(message) > MAX_MESSAGE:
        raise DecodeError(f"autonat message is longer than {MAX_MESSAGE} bytes")
    found: tuple[int, bytes] | None = None
    for number, _, value in protobuf.fields(message):
        if number in _READERS and isinstance(value, bytes):
            found = (number, value)
    if found is None:
        raise DecodeError("autonat message is empty")
    number, body = found
    return _READERS[number](body)


def encode_dial_back(nonce: int) -> bytes:
    """Return a DialBack."""
    return protobuf.fixed64(1, nonce)


def decode_dial_back(message: bytes) -> int:
    """Return the nonce of a DialBack. Raises DecodeError."""
    nonce = 0
    for number, wire_type, value in protobuf.fields(message):
        if number == 1 and wire_type == protobuf.FIXED64 and isinstance(value, int):
            nonce = value
    return nonce


def _read_request(body: bytes) -> DialRequest:
    raw: list[bytes] = []
    nonce = 0
    for number, wire_type, value in protobuf.fields(body):
        if number == 1 and isinstance(value, bytes):
            raw.append(value)
        elif number == 2 and wire_type == protobuf.FIXED64 and isinstance(value, int):
            nonce = value
    return DialRequest(tuple(_read_address(each) for each in raw[:MAX_ADDRESSES]), nonce)


def _read_response(body: bytes) -> DialResponse:
    found = _read_uints(body)
    return DialResponse(found.get(1, 0), found.get(2, 0), found.get(3, 0))


def _read_data_request(body: bytes) -> DialDataRequest:
    found = _read_uints(body)
    return DialDataRequest(found.get(1, 0), found.get(2, 0))


def _read_data_response(body: bytes) -> DialDataResponse:
    data = b""
    for number, _, value in protobuf.fields(body):
        if number == 1 and isinstance(value, bytes):
            data = value
    return DialDataResponse(data)


_READERS: dict[int, Callable[[bytes], Message]] = {
    1: _read_request,
    2: _read_response,
    3: _read_data_request,
    4: _read_data_response,
}


def _read_address(raw: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.decode(raw)
    except DecodeError:
        return None


def _read_uints(body: bytes) -> dict[int, int]:
    return {
        number: value
        for number, wire_type, value in protobuf.fields(body)
        if wire_type == protobuf.VARINT and isinstance(value, int)
    }


def _uints(*fields: tuple[int, int]) -> bytes:
    return b"".join(protobuf.uint(number, value) for number, value in fields if value)
