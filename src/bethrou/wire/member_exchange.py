"""The messages of `/bethrou/member-list/1.0.0`: two members bring each other to the same member list.

    opener    header
    answerer  header, what the opener lacks, end
    opener    what the answerer lacks, end, FIN
    answerer  header (what it has now), FIN

Neither tells anything but header and end to who is no member.

A header is uv(length) || JSON `{"serial":n,"admissions":hex,"admission":base64,"you":standing}`: the serial of one's
list (0: none), the digest of one's admissions, one's own admission where the list does not name one, and what the other
side is by all this. What is lacked is uv(length) || kind (one byte) || envelope; the end is length 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bethrou.errors import DecodeError
from bethrou.wire import varint
from bethrou.wire.grant import MAX_ADMISSION
from bethrou.wire.join_message import from_base64, to_base64
from bethrou.wire.json_reader import Buffer, decode_object, encode_prefixed, text_field, whole_field
from bethrou.wire.member_list import MAX_LIST, MAX_SERIAL

PROTOCOL = "/bethrou/member-list/1.0.0"

MAX_HEADER = 8192
"""Longest header in bytes."""

MAX_ADMISSIONS = 4096
"""Admissions that are told, and kept, beside a list: the operator's next list has them all in it."""


class Standing(Enum):
    """What somebody is by the list and the admissions that are known."""

    MEMBER = "member"
    UNKNOWN = "unknown"
    REMOVED = "removed"


class Kind(Enum):
    """What an envelope holds."""

    LIST = 1
    ADMISSION = 2

    @property
    def limit(self) -> int:
        """Longest envelope of this kind, in bytes."""
        return MAX_LIST if self is Kind.LIST else MAX_ADMISSION


@dataclass(frozen=True, slots=True)
class Header:
    """What one side has."""

    serial: int
    admissions: str
    """`digest` of the admissions."""
    admission: bytes | None = None
    you: Standing = Standing.MEMBER

    def encode(self) -> bytes:
        """Return the message with its length."""
        message: dict[str, Any] = {"serial": self.serial, "admissions": self.admissions}
        if self.admission is not None:
            message["admission"] = to_base64(self.admission)
        message["you"] = self.you.value
        return encode_prefixed(message, MAX_HEADER)

    @classmethod
    def decode(cls, body: bytes) -> Header:
        """Read the JSON. Raises DecodeError."""
        message = decode_object(body, MAX_HEADER)
        you = text_field(message, "you")
        has_admission = message.get("admission") is not None
        return cls(
            whole_field(message, "serial", MAX_SERIAL),
            text_field(message, "admissions"),
            from_base64(message, "admission", MAX_ADMISSION) if has_admission else None,
            next((standing for standing in Standing if standing.value == you), Standing.UNKNOWN),
        )


def digest(admissions: Iterable[bytes]) -> str:
    """Return what tells two sets of admissions apart: SHA-256 over their sorted SHA-256, in hex."""
    each = sorted(hashlib.sha256(envelope).digest() for envelope in admissions)
    return hashlib.sha256(b"".join(each)).hexdigest()


END = b"\x00"
"""The message that there is nothing more to tell."""


def encode_item(kind: Kind, envelope: bytes) -> bytes:
    """Return the message around an envelope. ValueError when it is longer than the other side reads."""
    if len(envelope) > kind.limit:
        raise ValueError(f"an envelope of this kind has at most {kind.limit} bytes, not {len(envelope)}")
    return varint.encode(1 + len(envelope)) + bytes([kind.value]) + envelope


class MessageReader:
    """Reads headers and items of one side, whatever the chunking. A conversation has one at each end."""

    __slots__ = ("_buffer", "_list_due", "admissions_left")

    def __init__(self, admissions: int = MAX_ADMISSIONS) -> None:
        """Take how many admissions may come, and one list."""
        self._buffer = bytearray()
        self.admissions_left = admissions
        """How many more admissions may come."""
        self._list_due = True

    def receive(self, data: Buffer) -> None:
        """Take bytes of the peer."""
        self._buffer += data

    def header(self) -> Header | None:
        """Return the next message as a header; None while it is not complete. Raises DecodeError."""
        body = self._message(MAX_HEADER)
        return None if body is None else Header.decode(body)

    def item(self) -> tuple[Kind, bytes] | bytes | None:
        """Return the next message as an item, b"" at the end; None while it is not complete. Raises DecodeError.

        Kinds of a later version are passed over; they count as admissions.
        """
        while body := self._message(MAX_LIST + 1):
            kind = next((kind for kind in Kind if kind.value == body[0]), None)
            if kind is not None and len(body) - 1 > kind.limit:
                raise DecodeError("a message of the member list is too long")
            self._count(kind)
            if kind is not None:
                return kind, body[1:]
        return body

    def _count(self, kind: Kind | None) -> None:
        if kind is Kind.LIST:
            if not self._list_due:
                raise DecodeError("a second member list came")
            self._list_due = False
            return
        self.admissions_left -= 1
        if self.admissions_left < 0:
            raise DecodeError("more admissions came than are allowed")

    def _message(self, limit: int) -> bytes | None:
        try:
            length, start = varint.decode(self._buffer)
        except varint.Truncated:
            return None
        if length > limit:
            raise DecodeError(f"a message of {length} bytes exceeds {limit}")
        end = start + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return body
