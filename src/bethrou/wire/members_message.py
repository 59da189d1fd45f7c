"""The messages of `/bethrou/members/1.0.0`: two members tell each other of themselves, and one of all it knows.

The opener sends uv(length) || its own node record in its envelope (length 0: it has none to tell, as a client), and
keeps its direction open. The answerer sends uv(length) || envelope for each member that it knows, at most MAX_RECORDS,
and then FIN. The records are verified by whoever reads them.
"""

from __future__ import annotations

from bethrou.errors import DecodeError
from bethrou.wire import varint
from bethrou.wire.envelope import MAX_ENVELOPE
from bethrou.wire.json_reader import Buffer

PROTOCOL = "/bethrou/members/1.0.0"

MAX_RECORDS = 4096
"""Records in one answer; as many members are known at most."""


def encode_record(envelope: bytes = b"") -> bytes:
    """Return the message around one envelope, or that there is none to tell. ValueError when it is too long."""
    if len(envelope) > MAX_ENVELOPE:
        raise ValueError(f"an envelope has at most {MAX_ENVELOPE} bytes, not {len(envelope)}")
    return varint.encode(len(envelope)) + envelope


class RecordReader:
    """Reads one side of the conversation, whatever the chunking."""

    __slots__ = ("_buffer", "_left")

    def __init__(self, limit: int = MAX_RECORDS) -> None:
        """Take how many records may come: 1 from the opener, MAX_RECORDS from the answerer."""
        self._buffer = bytearray()
        self._left = limit

    def receive(self, data: Buffer = b"") -> bytes | None:
        """Take bytes of the peer; return the next envelope once it is complete, b"" where there was none to tell.

        One envelope a call: several may have come at once, so call again until it returns None. Raises DecodeError
        when one is too long, or more come than may.
        """
        buffer = self._buffer
        buffer += data
        if buffer and not self._left:
            raise DecodeError("more node records came than are allowed")
        try:
            length, start = varint.decode(buffer)
        except varint.Truncated:
            return None
        if length > MAX_ENVELOPE:
            raise DecodeError(f"a node record of {length} bytes exceeds {MAX_ENVELOPE}")
        end = start + length
        if len(buffer) < end:
            return None
        envelope = bytes(buffer[start:end])
        del buffer[:end]
        self._left -= 1
        return envelope

    def eof(self) -> None:
        """The peer has ended its direction. Raises DecodeError if that is in the middle of a record."""
        if self._buffer:
            raise DecodeError("the peer ended in the middle of a node record")
