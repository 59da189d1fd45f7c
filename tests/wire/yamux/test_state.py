import itertools

import pytest

from bethrou.wire.yamux.state import TRANSITIONS, Event, State, next_state

# Which directions are open (ours, the peer's) says everything about a state but how it ended.
OPENNESS = {
    State.OPEN: (True, True),
    State.FIN_SENT: (False, True),
    State.FIN_RECEIVED: (True, False),
    State.FINISHED: (False, False),
    State.RESET: (False, False),
}

EVERY_PAIR = list(itertools.product(State, Event))


def expected(state: State, event: Event) -> State:
    """The rule in words: FIN ends one direction, RST both; what has ended stays as it is."""
    if state in (State.FINISHED, State.RESET):
        return state
    if event is Event.RESET:
        return State.RESET
    ours, theirs = OPENNESS[state]
    after = (ours and event is not Event.SEND_FIN, theirs and event is not Event.RECEIVE_FIN)
    return next(other for other, openness in OPENNESS.items() if openness == after)


@pytest.mark.parametrize(("state", "event"), EVERY_PAIR, ids=[f"{s.name}-{e.name}" for s, e in EVERY_PAIR])
def test_every_pair(state: State, event: Event) -> None:
    assert next_state(state, event) is expected(state, event)


def test_the_table_lists_what_changes_and_nothing_else() -> None:
    changes = {(state, event) for state, event in EVERY_PAIR if expected(state, event) is not state}
    assert set(TRANSITIONS) == changes


@pytest.mark.parametrize("state", State)
def test_what_a_state_allows(state: State) -> None:
    assert (state.can_send, state.can_receive) == OPENNESS[state]
    assert state.ended == (OPENNESS[state] == (False, False))


def test_a_direction_never_opens_again() -> None:
    for state, event in EVERY_PAIR:
        after = next_state(state, event)
        assert state.can_send or not after.can_send
        assert state.can_receive or not after.can_receive


def test_every_state_can_be_reached_and_every_life_can_end() -> None:
    reached, fringe = {State.OPEN}, [State.OPEN]
    while fringe:
        state = fringe.pop()
        for event in Event:
            after = next_state(state, event)
            if after not in reached:
                reached.add(after)
                fringe.append(after)
    assert reached == set(State)
    for state in State:
        assert next_state(state, Event.RESET).ended
        assert next_state(next_state(state, Event.SEND_FIN), Event.RECEIVE_FIN).ended


def test_labels_differ() -> None:
    # The values of an Enum that are equal would silently be one member.
    assert len(State) == 5
    assert len({state.label for state in State}) == 5
