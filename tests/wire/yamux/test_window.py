import itertools
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bethrou.errors import MuxerError
from bethrou.wire.yamux.frame import INITIAL_WINDOW
from bethrou.wire.yamux.window import BUDGET, BUSY_WINDOW, MAX_WINDOW, ReceiveWindow, WindowBudget

KIB, MIB = 1024, 1024 * 1024


class Path:
    """A sender that always has data behind `window`, over a path of `round_trip` seconds; time is arithmetic."""

    def __init__(self, window: ReceiveWindow, round_trip: float) -> None:
        self.window = window
        self.round_trip = round_trip
        self.now = 0.0
        self.received = 0
        self._credit = window.credit
        self._step = round_trip / 20
        self._data: deque[int] = deque([0] * 10)
        self._grants: deque[int] = deque([0] * 10)

    def run(self, seconds: float, rate: float) -> float:
        """Let time pass; the path carries `rate` bytes a second. Returns the rate that came out."""
        before, until = self.received, self.now + seconds
        while self.now < until:
            self.now += self._step
            self._credit += self._grants.popleft()
            sent = min(self._credit, int(rate * self._step))
            self._credit -= sent
            self._data.append(sent)
            arrived = self._data.popleft()
            self.received += arrived
            if arrived:
                self.window.receive(arrived)
                self.window.consume(arrived)
            self._grants.append(self.window.grant(self.now, self.round_trip))
        return (self.received - before) / seconds


def busy(budget: WindowBudget | None = None) -> ReceiveWindow:
    """A window that has left its initial size."""
    window = ReceiveWindow(budget or WindowBudget())
    window.receive(INITIAL_WINDOW)
    window.consume(INITIAL_WINDOW)
    window.grant(0.0, 0.001)
    return window


def test_a_window_begins_as_the_specification_says() -> None:
    window = ReceiveWindow(WindowBudget())
    assert INITIAL_WINDOW == 262144
    assert window.credit == window.limit == INITIAL_WINDOW
    assert window.grant(0.0, 0.1) == 0


def test_the_last_byte_of_the_window_is_allowed_and_the_next_is_not() -> None:
    window = ReceiveWindow(WindowBudget())
    window.receive(INITIAL_WINDOW)
    assert window.credit == 0
    with pytest.raises(MuxerError, match="sent 1 bytes with a window of 0") as caught:
        window.receive(1)
    assert caught.value.code == 1


def test_credit_follows_consumption_and_nothing_else() -> None:
    window = ReceiveWindow(WindowBudget())
    window.receive(200 * KIB)
    for now in (0.0, 1.0, 3600.0):
        assert window.grant(now, 0.05) == 0  # arrived, but nobody has read it
    window.consume(200 * KIB)
    assert window.grant(3601.0, 0.05) > 0


def test_small_amounts_are_not_worth_a_frame() -> None:
    window = ReceiveWindow(WindowBudget())
    window.receive(INITIAL_WINDOW // 4 - 1)
    window.consume(INITIAL_WINDOW // 4 - 1)
    assert window.grant(0.0, 0.05) == 0
    window.receive(1)
    window.consume(1)
    assert window.grant(0.0, 0.05) == BUSY_WINDOW - INITIAL_WINDOW + INITIAL_WINDOW // 4


def test_a_busy_stream_gets_its_larger_window_with_the_first_grant() -> None:
    window = busy()
    assert (window.limit, window.credit) == (BUSY_WINDOW, BUSY_WINDOW)


@pytest.mark.parametrize("round_trip", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("rate", [1 * MIB, 10 * MIB, 40 * MIB])
def test_a_path_is_filled_by_a_window_of_four_times_rate_times_round_trip(
    rate: int, round_trip: float
) -> None:
    path = Path(ReceiveWindow(WindowBudget()), round_trip)
    path.run(40 * round_trip, rate)
    assert path.run(40 * round_trip, rate) > 0.95 * rate
    ideal = max(BUSY_WINDOW, min(4 * rate * round_trip, MAX_WINDOW))
    assert 0.8 * ideal <= path.window.limit <= 1.25 * ideal


def test_growth_takes_few_round_trips() -> None:
    path = Path(ReceiveWindow(WindowBudget()), 0.1)
    path.run(1.0, 30 * MIB)  # ten of them
    assert path.run(0.5, 30 * MIB) > 0.9 * 30 * MIB


def test_on_a_short_path_the_window_stays_small() -> None:
    path = Path(ReceiveWindow(WindowBudget()), 0.0002)
    assert path.run(0.2, 450 * MIB) > 0.95 * 450 * MIB
    assert path.window.limit == BUSY_WINDOW


def test_no_window_grows_beyond_the_largest() -> None:
    path = Path(ReceiveWindow(WindowBudget()), 0.3)
    path.run(10.0, 1024 * MIB)
    assert path.window.limit == MAX_WINDOW
    assert path.run(3.0, 1024 * MIB) <= 1.01 * MAX_WINDOW / 0.3


def test_a_window_that_is_no_longer_needed_falls_back_by_half_at_a_time() -> None:
    budget = WindowBudget()
    path = Path(ReceiveWindow(budget), 0.1)
    path.run(5.0, 40 * MIB)
    high = path.window.limit
    assert high > 7 * MIB
    limits = [high]
    for _ in range(400):
        path.run(0.1, 1 * MIB)
        limits.append(path.window.limit)
    assert limits[-1] == BUSY_WINDOW
    for before, after in itertools.pairwise(limits):
        assert after >= min(before, max(before // 2 - 1, BUSY_WINDOW))
    window = path.window
    assert window.credit + window._held <= window.limit
    assert budget.take(BUDGET) == BUDGET - (BUSY_WINDOW - INITIAL_WINDOW)


def test_falling_back_withholds_credit_and_takes_none_back() -> None:
    path = Path(ReceiveWindow(WindowBudget()), 0.1)
    path.run(5.0, 40 * MIB)
    window = path.window
    allowed = window.credit
    while window.limit > BUSY_WINDOW:
        size = min(100 * KIB, window.credit)
        window.receive(size)
        window.consume(size)
        path.now += 1.0
        allowed += window.grant(path.now, 0.1) - size
        assert window.credit == allowed  # what the peer was told is never more than what it may send
    assert window.credit >= 0


def test_a_short_stall_does_not_throw_a_long_paths_window_away() -> None:
    path = Path(ReceiveWindow(WindowBudget()), 0.1)
    path.run(5.0, 40 * MIB)
    before = path.window.limit
    path.run(2.0, 0)
    path.run(0.3, 40 * MIB)
    assert path.window.limit >= before // 2


def test_the_budget_bounds_all_windows_together() -> None:
    budget = WindowBudget(1 * MIB)
    paths = [Path(ReceiveWindow(budget), 0.1) for _ in range(8)]
    for _ in range(30):
        for path in paths:
            path.run(0.1, 40 * MIB)
    assert sum(path.window.limit - INITIAL_WINDOW for path in paths) == 1 * MIB
    for path in paths:
        assert path.run(1.0, 40 * MIB) > 2 * MIB  # everyone goes on with what there is
        path.window.release()
    assert budget.take(2 * MIB) == 1 * MIB


def test_with_nothing_left_in_the_budget_a_window_stays_as_it_began() -> None:
    path = Path(ReceiveWindow(WindowBudget(0)), 0.05)
    assert path.run(5.0, 100 * MIB) > 0.9 * INITIAL_WINDOW / 0.05
    assert path.window.limit == INITIAL_WINDOW


def test_release_gives_everything_back_and_may_be_repeated() -> None:
    budget = WindowBudget(10 * MIB)
    path = Path(ReceiveWindow(budget), 0.1)
    path.run(3.0, 40 * MIB)
    assert path.window.limit > BUSY_WINDOW
    path.window.release()
    path.window.release()
    assert budget.take(11 * MIB) == 10 * MIB


class Windows(RuleBasedStateMachine):
    """Several windows on one budget, with peers that keep to their credit or not, and readers as slow as they like."""

    LIMIT = 6 * MIB

    def __init__(self) -> None:
        super().__init__()
        self.budget = WindowBudget(self.LIMIT)
        self.windows = [ReceiveWindow(self.budget) for _ in range(3)]
        self.peers = [INITIAL_WINDOW] * 3  # what each peer may still send, as it was told
        self.held = [0] * 3
        self.largest = [INITIAL_WINDOW] * 3
        self.now = 0.0

    which = st.integers(0, 2)

    @rule(index=which, share=st.floats(0, 1))
    def receive(self, index: int, share: float) -> None:
        size = int(self.peers[index] * share)
        self.windows[index].receive(size)
        self.peers[index] -= size
        self.held[index] += size

    @rule(index=which, excess=st.integers(1, MIB))
    def oversend(self, index: int, excess: int) -> None:
        with pytest.raises(MuxerError):
            self.windows[index].receive(self.peers[index] + excess)

    @precondition(lambda self: any(self.held))
    @rule(index=which, share=st.floats(0, 1))
    def consume(self, index: int, share: float) -> None:
        size = int(self.held[index] * share)
        self.windows[index].consume(size)
        self.held[index] -= size

    @rule(index=which, elapsed=st.floats(0, 2), round_trip=st.floats(0.0001, 0.5))
    def grant(self, index: int, elapsed: float, round_trip: float) -> None:
        self.now += elapsed
        granted = self.windows[index].grant(self.now, round_trip)
        assert granted >= 0
        self.peers[index] += granted
        self.largest[index] = max(self.largest[index], self.windows[index].limit)

    @rule(index=which)
    def replace(self, index: int) -> None:
        self.windows[index].release()
        self.windows[index] = ReceiveWindow(self.budget)
        self.peers[index], self.held[index], self.largest[index] = INITIAL_WINDOW, 0, INITIAL_WINDOW

    @invariant()
    def the_promises_hold(self) -> None:
        for index, window in enumerate(self.windows):
            assert window.credit == self.peers[index] >= 0
            assert window._held == self.held[index] >= 0
            assert window.credit + self.held[index] <= self.largest[index]
            assert INITIAL_WINDOW <= window.limit <= MAX_WINDOW
        assert sum(window.limit - INITIAL_WINDOW for window in self.windows) + self.budget._left == self.LIMIT
        assert self.budget._left >= 0

    def teardown(self) -> None:
        for window in self.windows:
            window.release()
        assert self.budget._left == self.LIMIT


TestWindows = Windows.TestCase
TestWindows.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
