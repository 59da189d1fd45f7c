"""Every exception that Bethrou raises on purpose, in one tree that says whose fault it was.

- `BethrouError`
    - `UserError`: what the user gave cannot be used; the program ends with status 2
        - `AddressError`: a text is no multiaddr or no peer ID
        - `KeyFileError`: a network key or identity file is unusable
        - `ConfigError`: a configuration file, field or option is unusable
        - `InviteError`: a link by which a device was to join is damaged, foreign, expired or used
        - `NotOffered`: a running program was asked for what its kind does not have
    - `PeerError`: the other side broke a rule of the protocol
        - `DecodeError`: bytes that are no valid varint, protobuf, multiaddr or JSON message
        - `NegotiationError`: multistream-select failed
            - `UnsupportedProtocol`: the peer answered `na` to every proposal
        - `HandshakeError`: the secure channel could not be set up
            - `NetworkKeyMismatch`: most likely the two sides hold different network keys
            - `IdentityMismatch`: somebody else answered than the peer that was dialled
        - `TlsError`: a rule of TLS was broken behind the handshake; carries the alert
        - `MuxerError`: a Yamux rule was broken; carries the GOAWAY code
        - `WebSocketError`: a rule of WebSockets was broken, or none was to be had; carries the close code
    - `LinkError`: the world failed, nobody broke a rule
        - `DialError`: no address of a peer led to a link
        - `LinkLost`: the link went away or fell silent
        - `ConnectionCut`: a carried connection was cut off; a `ConnectionResetError`, too
        - `StreamReset`: a stream was ended at once; carries the RST code
        - `AccessRefused`: a server that was asked for help turns us away, and will until somebody changes something
    - `RequestError`: a proxied request was not carried out; carries a `Failure`
        - `NotConnected`: what a program that embeds the client gets of it; a `ConnectionError`, too
        - `NoAnswer`: the exit had not answered when our time was up, nor said that its own was
    - `ControlError`: a running program could not be asked through its control socket
        - `NotRunning`: there is none; the command ends with status 3

Messages name what was tried, what happened and, where there is something to do, what to do.
They never contain a secret.
"""

from __future__ import annotations

from enum import Enum


class BethrouError(Exception):
    """Base of all errors that Bethrou raises on purpose."""


class UserError(BethrouError):
    """What the user gave (file, option, address) cannot be used. Exit status 2, one line, no traceback."""


class AddressError(UserError):
    """A text is no multiaddr or no peer ID, or not one that can be dialled."""


class KeyFileError(UserError):
    """A network key or identity file cannot be read, written or understood."""


class ConfigError(UserError):
    """A configuration file, one of its fields, or a command-line option is unusable."""


class InviteError(UserError):
    """A link by which a device was to join is damaged, of another network, expired or used."""


class NotOffered(UserError):
    """A running program was asked for what its kind does not have: a node chooses no exits."""


class PeerError(BethrouError):
    """The other side broke a rule of the protocol."""


class DecodeError(PeerError):
    """Bytes from a peer are no valid varint, protobuf, multiaddr or JSON message."""


class NegotiationError(PeerError):
    """multistream-select ended without a protocol."""


class UnsupportedProtocol(NegotiationError):
    """The peer answered `na` to every proposal."""


class HandshakeError(PeerError):
    """The secure channel could not be set up."""


class NetworkKeyMismatch(HandshakeError):
    """What came before the secure channel made no sense: most likely another network key."""


class IdentityMismatch(HandshakeError):
    """The peer proved an identity, but not the one that was dialled."""


class TlsError(PeerError):
    """A rule of TLS was broken behind the handshake. `alert` is the number that says so (RFC 8446, appendix B.2)."""

    def __init__(self, alert: int, message: str) -> None:
        super().__init__(message)
        self.alert = alert


class MuxerError(PeerError):
    """A Yamux rule was broken. `code` is the GOAWAY code that says so (spec: yamux, Go Away Message)."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class WebSocketError(PeerError):
    """A rule of WebSockets was broken, or the other side speaks none. `code` is the close code that says so."""

    def __init__(self, message: str, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class LinkError(BethrouError):
    """The network failed; nobody broke a rule."""


class DialError(LinkError):
    """No address of a peer led to a link."""


class LinkLost(LinkError):
    """The link to a peer went away or fell silent."""


class ConnectionCut(LinkError, ConnectionResetError):
    """A connection that an exit carried was cut off: what came is not all."""


class StreamReset(LinkError):
    """A stream was ended at once by either side. `code` is the RST code (0 = no reason given)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class AccessRefused(LinkError):
    """A server (Redis) turns us away: password, permissions, certificate. To try again soon would not help."""


class Failure(Enum):
    """Why a proxied request was not carried out: the codes of `/bethrou/proxy/1.1.0`, and ours."""

    REFUSED = "refused"
    HOST_UNREACHABLE = "host-unreachable"
    NET_UNREACHABLE = "net-unreachable"
    NO_SUCH_HOST = "no-such-host"
    TIMEOUT = "timeout"
    DENIED = "denied"
    BAD_REQUEST = "bad-request"
    DRAINING = "draining"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"
    NO_EXIT = "no-exit"
    """Never on the wire: no exit was there to be asked."""

    @property
    def final(self) -> bool:
        """Whether another exit would say the same, so that none is asked."""
        return self not in _RETRYABLE


_RETRYABLE = frozenset({Failure.DRAINING, Failure.OVERLOADED, Failure.INTERNAL, Failure.NO_EXIT})


class RequestError(BethrouError):
    """A proxied request was not carried out. `exit` is the peer ID of the exit that said so, or ""."""

    def __init__(self, failure: Failure, message: str, exit: str = "") -> None:  # noqa: A002 - the product's word
        super().__init__(message)
        self.failure = failure
        self.exit = exit


class NotConnected(RequestError, ConnectionError):
    """A connection was not made, in a program that embeds the client and treats it as any other network."""


class NoAnswer(RequestError):
    """The exit had not answered when our time was up: its fault or the destination's, nobody knows."""


class ControlError(BethrouError):
    """A running program could not be asked through its control socket, or did not answer sensibly."""


class NotRunning(ControlError):
    """No program of ours runs where one was looked for."""
