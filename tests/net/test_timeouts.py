"""Many equal timeouts behind one timer, with a clock that tests move."""

import asyncio
from collections.abc import Callable

import pytest

from bethrou.net.timeouts import TimeoutQueue

from .clock import Clock


class Calls:
    def __init__(self) -> None:
        self.made: list[str] = []

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.made.append(name)


def queue(seconds: float = 10.0) -> TimeoutQueue:
    return TimeoutQueue(asyncio.get_running_loop(), seconds)


async def test_each_is_called_when_its_time_is_up_and_not_before(clock: Clock) -> None:
    timeouts, calls = queue(), Calls()
    for name in "abc":
        timeouts.start(name, calls.note(name))
        await clock.forward(3)
    assert calls.made == []
    await clock.forward(1.5)
    assert calls.made == ["a"]
    await clock.forward(3)
    assert calls.made == ["a", "b"]
    await clock.forward(3)
    assert calls.made == ["a", "b", "c"]
    assert len(timeouts) == 0


async def test_what_is_stopped_is_not_called_and_what_is_restarted_later(clock: Clock) -> None:
    timeouts, calls = queue(), Calls()
    for name in "abc":
        timeouts.start(name, calls.note(name))
    await clock.forward(6)
    timeouts.stop("a")
    timeouts.stop("nobody")
    timeouts.start("b", calls.note("b again"))
    await clock.forward(5)
    assert calls.made == ["c"]
    await clock.forward(5.5)
    assert calls.made == ["c", "b again"]


async def test_a_queue_that_ran_empty_begins_again(clock: Clock) -> None:
    timeouts, calls = queue(), Calls()
    timeouts.start("a", calls.note("a"))
    timeouts.stop("a")
    await clock.forward(9)
    timeouts.start("b", calls.note("b"))
    await clock.forward(9)
    assert calls.made == []
    await clock.forward(1.5)
    assert calls.made == ["b"]


async def test_one_due_may_stop_or_restart_another_that_is_due_with_it(clock: Clock) -> None:
    timeouts, calls = queue(), Calls()

    def first() -> None:
        calls.made.append("first")
        timeouts.stop("second")
        timeouts.start("third", calls.note("third again"))

    timeouts.start("first", first)
    timeouts.start("second", calls.note("second"))
    timeouts.start("third", calls.note("third"))
    await clock.forward(10.5)
    assert calls.made == ["first"]
    await clock.forward(10.5)
    assert calls.made == ["first", "third again"]


async def test_one_due_may_start_itself_again(clock: Clock) -> None:
    timeouts, count = queue(), [0]

    def again() -> None:
        count[0] += 1
        timeouts.start("a", again)

    timeouts.start("a", again)
    await clock.forward(52)
    assert count == [5]
    timeouts.close()
    await clock.forward(20)
    assert count == [5]


async def test_the_oldest_can_be_made_to_expire(clock: Clock) -> None:
    timeouts, calls = queue(), Calls()
    timeouts.expire_oldest()
    for name in "abc":
        timeouts.start(name, calls.note(name))
    timeouts.stop("a")
    timeouts.expire_oldest()
    assert calls.made == ["b"]
    await clock.forward(11)
    assert calls.made == ["b", "c"]


async def test_a_limit_that_is_kept(clock: Clock) -> None:
    timeouts = queue()
    with timeouts.limit():
        await asyncio.sleep(0)
    await clock.forward(20)
    assert len(timeouts) == 0


async def test_a_limit_that_is_not_kept(clock: Clock) -> None:
    timeouts = queue()

    async def wait() -> str:
        try:
            with timeouts.limit():
                await asyncio.Event().wait()
        except TimeoutError:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return "late"
        return "in time"

    waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
    await clock.forward(9)
    assert not any(task.done() for task in waiting)
    await clock.forward(2)
    assert [await task for task in waiting] == ["late"] * 3


async def test_somebody_elses_cancellation_stays_one(clock: Clock) -> None:
    timeouts = queue()

    async def wait() -> None:
        with timeouts.limit():
            await asyncio.Event().wait()

    for both in (False, True):
        waiting = asyncio.ensure_future(wait())
        await clock.forward(1)
        if both:
            next(iter(timeouts._pending.values()))[1]()  # the time is up in the very turn of the cancellation
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(timeouts) == 0


async def test_a_limit_in_a_task_that_has_been_cancelled_before(clock: Clock) -> None:
    """Cleaning up behind a cancellation has limits, too."""
    timeouts = queue()

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                with timeouts.limit():
                    await asyncio.Event().wait()
            except TimeoutError:
                return "cleaned up in the end"
        return "?"

    working = asyncio.ensure_future(work())
    await clock.forward(1)
    working.cancel()
    await clock.forward(11)
    assert await working == "cleaned up in the end"


async def test_an_error_in_time_goes_through_a_limit(clock: Clock) -> None:
    timeouts = queue()
    with pytest.raises(ValueError, match="mine"), timeouts.limit():
        raise ValueError("mine")
    assert len(timeouts) == 0
