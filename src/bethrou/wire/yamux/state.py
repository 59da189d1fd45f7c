"""The life of a Yamux stream as a table: (state, event) to the next state.

Each side ends its own direction with FIN; RST by either side ends both at once. An event that a state does not
list changes nothing: frames cross on the wire, so a peer may well send what is no longer of interest.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Which directions of a stream are still open: (label, we may send, the peer may send)."""

    OPEN = ("open", True, True)
    FIN_SENT = ("FIN sent", False, True)
    """We have ended our direction, the peer has not."""
    FIN_RECEIVED = ("FIN received", True, False)
    """The peer has ended its direction, we have not."""
    FINISHED = ("finished", False, False)
    """Both have ended; the ID is forgotten."""
    RESET = ("reset", False, False)
    """Ended at once by either side; the ID is forgotten."""

    def __init__(self, label: str, can_send: bool, can_receive: bool) -> None:
        self.label = label
        self.can_send = can_send
        """Whether we may still send data."""
        self.can_receive = can_receive
        """Whether the peer may still send data."""
        self.ended = not (can_send or can_receive)
        """Whether the stream is over."""

    # Enum's own hash is a Python function, which shows in a table that every stream asks several times.
    __hash__ = object.__hash__


class Event(Enum):
    """What happens to a stream."""

    SEND_FIN = auto()
    RECEIVE_FIN = auto()
    RESET = auto()

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.OPEN, Event.SEND_FIN): State.FIN_SENT,
    (State.OPEN, Event.RECEIVE_FIN): State.FIN_RECEIVED,
    (State.FIN_SENT, Event.RECEIVE_FIN): State.FINISHED,
    (State.FIN_RECEIVED, Event.SEND_FIN): State.FINISHED,
    (State.OPEN, Event.RESET): State.RESET,
    (State.FIN_SENT, Event.RESET): State.RESET,
    (State.FIN_RECEIVED, Event.RESET): State.RESET,
}


def next_state(state: State, event: Event) -> State:
    """The state after `event`; unchanged when the event means nothing there."""
    return TRANSITIONS.get((state, event), state)
