"""The life of a Yamux stream as a table: (state, event) to the next state.

Each side ends its own direction with FIN; RST by either side ends both at once. An event that a state does not
list changes nothing: frames cross on the wire, so a peer may well send what is no longer of interest.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Which directions of a stream are still open."""

    OPEN = auto()
    FIN_SENT = auto()
    """We have ended our direction, the peer has not."""
    FIN_RECEIVED = auto()
    """The peer has ended its direction, we have not."""
    FINISHED = auto()
    """Both have ended; the ID is forgotten."""
    RESET = auto()
    """Ended at once by either side; the ID is forgotten."""

    @property
    def can_send(self) -> bool:
        """Whether we may still send data."""
        return self in _SENDING

    @property
    def can_receive(self) -> bool:
        """Whether the peer may still send data."""
        return self in _RECEIVING

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return self in _ENDED


class Event(Enum):
    """What happens to a stream."""

    SEND_FIN = auto()
    RECEIVE_FIN = auto()
    RESET = auto()


_SENDING = frozenset({State.OPEN, State.FIN_RECEIVED})
_RECEIVING = frozenset({State.OPEN, State.FIN_SENT})
_ENDED = frozenset({State.FINISHED, State.RESET})

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
