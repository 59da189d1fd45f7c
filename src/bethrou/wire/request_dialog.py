"""The client's side of one proxied request, from the proposal of its protocol to the exit's last word on it.

multistream-select and the request protocol run together here, because they run together on the wire: proposal and
request leave in one piece, and their answers come back in one. Fed with what the exit sends, in any chunking; returns
one answer at a time. Bytes behind `Connected` belong to the application and are kept in `surplus`.
"""

from __future__ import annotations

from bethrou.errors import DecodeError
from bethrou.wire.json_reader import Buffer
from bethrou.wire.multistream import Dialer, opening
from bethrou.wire.proxy_request import (
    DIALING_V1_1,
    PROTOCOL_V1_0,
    PROTOCOL_V1_1,
    Answer,
    Dialing,
    JsonObjectReader,
    PrefixedJsonReader,
    ProxyRequest,
    decode_answer_v1_0,
    decode_answer_v1_1,
    encode_request_v1_0,
    encode_request_v1_1,
    usual_answer,
)

_DIALING = Dialing()


class _Dialog:
    """What both versions share: agreeing on the protocol."""

    __slots__ = ("_agreed", "_buffer", "_out", "_protocol")

    def __init__(self, protocol: str, first: bytes) -> None:
        self._protocol = protocol
        self._out = opening(protocol) + first
        self._buffer = b""
        self._agreed = False

    def data_to_send(self) -> bytes:
        """Return what must be written now, once; empty when there is nothing."""
        out, self._out = self._out, b""
        return out

    def _agree(self) -> bool:
        """Whether the exit has taken the proposal. Raises `NegotiationError` when it does not."""
        expected = opening(self._protocol)  # who agrees answers with the very same bytes
        if self._buffer.startswith(expected):
            self._buffer = self._buffer[len(expected) :]
            self._agreed = True
        elif not expected.startswith(self._buffer):
            Dialer([self._protocol]).receive(self._buffer)  # says what is wrong with it
        return self._agreed


class RequestDialog(_Dialog):
    """A request by `/bethrou/proxy/1.1.0`: the answers are `Dialing` and then `Connected` or `Refused`."""

    __slots__ = ("_dialing", "_messages", "surplus")

    def __init__(self, request: ProxyRequest) -> None:
        super().__init__(PROTOCOL_V1_1, encode_request_v1_1(request))
        self._messages = PrefixedJsonReader()
        self._dialing = False
        self.surplus = b""
        """Every byte received behind the last answer."""

    def receive(self, data: Buffer) -> Answer | None:
        """Take bytes of the exit; return its next answer once it is complete, else None.

        One answer a call: after `Dialing` call again with b"". Raises `NegotiationError` or `DecodeError`.
        """
        self._buffer += data
        if not self._agreed and not self._agree():
            return None
        # the usual words need no JSON decoder
        if not self._dialing and self._buffer.startswith(DIALING_V1_1):
            self._dialing = True
            self._buffer = self._buffer[len(DIALING_V1_1) :]
            return _DIALING
        received, self._buffer = self._buffer, b""
        if self._dialing and (usual := usual_answer(received)) is not None:
            self.surplus = received[usual[1] :]
            return usual[0]
        message = self._messages.receive(received)
        if message is None:
            return None
        self.surplus = self._messages.surplus
        answer = decode_answer_v1_1(message)
        if isinstance(answer, Dialing):
            if self._dialing:
                raise DecodeError("the exit said `dialing` twice")
            self._dialing = True
        return answer


class GoRequestDialog(_Dialog):
    """A request by `/bethrou/proxy/1.0.0`, Go's: the one answer is `Connected` or `Refused`.

    `known`: the exit says that it speaks this, so that the request can be sent right behind the proposal.
    """

    __slots__ = ("_messages", "_request")

    def __init__(self, request: ProxyRequest, known: bool) -> None:
        encoded = encode_request_v1_0(request)
        super().__init__(PROTOCOL_V1_0, encoded if known else b"")
        self._messages = JsonObjectReader()
        self._request = b"" if known else encoded

    def receive(self, data: Buffer) -> Answer | None:
        """Take bytes of the exit; return its answer once it is complete, else None.

        There may be `data_to_send` afterwards. Raises `NegotiationError` or `DecodeError`.
        """
        self._buffer += data
        if not self._agreed:
            if not self._agree():
                return None
            self._out += self._request
        received, self._buffer = self._buffer, b""
        message = self._messages.receive(received)
        return None if message is None else decode_answer_v1_0(message)

    @property
    def surplus(self) -> bytes:
        """Every byte received behind the answer."""
        return self._messages.surplus


AnyRequestDialog = RequestDialog | GoRequestDialog
