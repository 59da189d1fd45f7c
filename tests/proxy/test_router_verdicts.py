"""What a router holds against an exit, or for it, and where it keeps sessions: with exits that do as they are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from bethrou.config import RoutingConfig, RoutingRule
from bethrou.errors import Failure, NoAnswer, RequestError
from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy import exit_client
from bethrou.proxy.exit import Exit, ExitAddress
from bethrou.proxy.health import State
from bethrou.proxy.pool import Pool
from bethrou.proxy.router import Routed, Router
from bethrou.proxy.suspicion import Suspicion
from bethrou.wire.proxy_request import (
    PROTOCOL_V1_1,
    Connected,
    Dialing,
    ProxyRequest,
    Refused,
    encode_answer_v1_1,
)
from bethrou.wire.user_name import UserName
from live.waiting import until
from net.hosts import Member

DIALING = encode_answer_v1_1(Dialing())
CONNECTED = DIALING + encode_answer_v1_1(Connected(None))
OWN_TIMEOUT = DIALING + encode_answer_v1_1(Refused(Failure.TIMEOUT, "no answer within 10 s"))
BROKEN = encode_answer_v1_1(Refused(Failure.INTERNAL, "broken"))
TIMEOUT = 0.3


class Scripted(asyncio.Protocol):
    """An exit's side of a request that has been answered already."""

    def eof_received(self) -> bool:
        return True


class Scene:
    """A router and exits that answer each request with `answers[exit]`, if there is one."""

    def __init__(self, stack: AsyncExitStack, names: str) -> None:
        loop = asyncio.get_running_loop()
        self.client = Member("client")
        self.members = {name: Member(name) for name in names}
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.streams: list[YamuxStream] = []
        self.pool = Pool(loop, self.client, lambda event: None, random.Random(1))
        self.router = Router(loop, self.pool, RoutingConfig(timeout=TIMEOUT), (), random.Random(1))
        self.router._limits.take = TimeoutQueue(loop, 10.0)  # a busy machine is no fault of an exit
        self.router._limits.answer = TimeoutQueue(loop, TIMEOUT, resolution=0.05)
        for name, member in self.members.items():
            member.handle(PROTOCOL_V1_1, self.answering(name))
            stack.push_async_callback(member.close)
        stack.push_async_callback(self.client.close)
        stack.push_async_callback(self.pool.close)
        stack.callback(self.router.close)
        self.pool.know(ExitAddress(member.peer_id, (member.address,)) for member in self.members.values())
        self.pool.start()

    def answering(self, name: str) -> Callable[[Link, YamuxStream, bytes], None]:
        def handler(_link: Link, stream: YamuxStream, _surplus: bytes) -> None:
            self.asked.append(name)
            self.streams.append(stream)
            stream.set_protocol(Scripted())
            stream.write(self.answers.get(name, DIALING))

        return handler

    def exit(self, name: str) -> Exit:
        return self.pool.exits[str(self.members[name].peer_id)]

    def put_on_probation(self, name: str) -> None:
        exit_ = self.exit(name)
        over = asyncio.get_running_loop().time() - 1.0
        suspicion = Suspicion(True, 1, over, "broke")
        exit_.health = replace(exit_.health, state=State.SUSPECT, suspicion=suspicion)

    async def ask(self, **wishes: str) -> Routed:
        request = ProxyRequest("x.example", 80, "0" * 16, wishes.pop("user", None))
        name = UserName(request.user or "", **wishes)  # type: ignore[arg-type]
        return await self.router.route(request, name, self.router.rule(request, name))

    async def carried_by(self, **wishes: str) -> str:
        """Which exit carries a request out, that is over then."""
        routed = await self.ask(**wishes)
        routed.accepted.stream.abort()
        self.router.finished(routed.exit)
        return next(name for name in self.members if self.exit(name) is routed.exit)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


async def scene(stack: AsyncExitStack, names: str) -> Scene:
    made = Scene(stack, names)
    await until(lambda: len(made.pool.linked) == len(names))
    return made


# -- verdicts -------------------------------------------------------------------------------------------------------


async def test_silence_after_dialing_neither_marks_an_exit_nor_heals_it(stack: AsyncExitStack) -> None:
    it = await scene(stack, "a")
    with pytest.raises(RequestError) as caught:
        await it.ask()
    assert (caught.value.failure, caught.value.exit) == (Failure.TIMEOUT, str(it.exit("a").peer))
    assert it.exit("a").health.state is State.HEALTHY
    it.put_on_probation("a")
    with pytest.raises(RequestError):
        await it.ask()
    health = it.exit("a").health
    assert health.state is State.SUSPECT
    assert health.may_try(asyncio.get_running_loop().time()), "the trial was none"
    assert it.exit("a").streams == 0


async def test_a_timeout_that_the_exit_reports_itself_is_an_answer(stack: AsyncExitStack) -> None:
    it = await scene(stack, "a")
    it.answers["a"] = OWN_TIMEOUT
    it.put_on_probation("a")
    with pytest.raises(RequestError) as caught:
        await it.ask()
    assert caught.value.failure is Failure.TIMEOUT
    assert it.exit("a").health.state is State.HEALTHY
    assert it.exit("a").streams == 0


async def test_the_two_are_told_apart_where_they_arise(stack: AsyncExitStack) -> None:
    it = await scene(stack, "a")
    link = it.exit("a").link
    assert link is not None
    request = ProxyRequest("x.example", 80)
    limits = it.router._limits
    with pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"):
        await exit_client.ask(link, request, limits, exit_client.Attempt(0.0))
    it.answers["a"] = OWN_TIMEOUT
    with pytest.raises(RequestError) as caught:
        await exit_client.ask(link, request, limits, exit_client.Attempt(0.0))
    assert not isinstance(caught.value, NoAnswer)


async def test_an_own_fault_marks_the_exit_and_another_one_is_asked(stack: AsyncExitStack) -> None:
    it = await scene(stack, "ab")
    it.answers.update(a=BROKEN, b=CONNECTED)
    for _ in range(4):
        assert await it.carried_by() == "b"
    assert it.exit("a").health.state is State.SUSPECT
    assert it.asked.count("a") <= 1


async def test_an_application_that_gives_up_leaves_nothing_behind(stack: AsyncExitStack) -> None:
    it = await scene(stack, "a")
    it.put_on_probation("a")
    asking = asyncio.create_task(it.ask())
    await until(lambda: it.asked)
    assert it.exit("a").streams == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert it.exit("a").streams == 0
    assert it.exit("a").health.may_try(asyncio.get_running_loop().time())
    await until(it.streams[0].is_closing)


async def test_an_exit_whose_link_is_lost_while_it_is_asked_is_passed_over(stack: AsyncExitStack) -> None:
    it = await scene(stack, "ab")
    it.answers["b"] = CONNECTED
    asking = asyncio.create_task(it.carried_by(session="1"))
    await until(lambda: it.asked)
    if it.asked == ["a"]:
        link = it.exit("a").link
        assert link is not None
        link.abort(ConnectionError("pulled"))
    assert await asking == "b"
    assert it.exit("a").streams == it.exit("b").streams == 0


# -- sessions -------------------------------------------------------------------------------------------------------


async def test_requests_of_a_new_session_that_come_together_go_together(stack: AsyncExitStack) -> None:
    it = await scene(stack, "abcd")
    it.answers.update(dict.fromkeys("abcd", CONNECTED))
    for session in range(5):
        used = await asyncio.gather(*(it.carried_by(session=str(session)) for _ in range(10)))
        assert len(set(used)) == 1, used


async def test_a_session_moves_with_the_request_that_had_to_and_stays_there(stack: AsyncExitStack) -> None:
    it = await scene(stack, "abc")
    it.answers.update(dict.fromkeys("abc", CONNECTED))
    first = await it.carried_by(session="7")
    it.answers[first] = BROKEN
    second = await it.carried_by(session="7")
    assert second != first
    it.answers[first] = CONNECTED
    assert {await it.carried_by(session="7") for _ in range(5)} == {second}


async def test_a_slow_answer_of_the_former_exit_does_not_move_a_session_back(stack: AsyncExitStack) -> None:
    it = await scene(stack, "abc")
    it.answers.update(dict.fromkeys("abc", CONNECTED))
    first = await it.carried_by(session="7")
    it.answers[first] = DIALING
    late = asyncio.create_task(it.carried_by(session="7"))
    await until(lambda: len(it.asked) == 2)
    it.answers[first] = BROKEN
    second = await it.carried_by(session="7")
    it.streams[1].write(encode_answer_v1_1(Connected(None)))
    assert await late == first
    it.answers[first] = CONNECTED
    assert await it.carried_by(session="7") == second


async def test_a_users_session_is_nobody_elses(stack: AsyncExitStack) -> None:
    it = await scene(stack, "abcd")
    it.answers.update(dict.fromkeys("abcd", CONNECTED))
    homes = {user: await it.carried_by(user=user, session="7") for user in map(str, range(12))}
    assert len(set(homes.values())) > 1
    for user, home in homes.items():
        assert await it.carried_by(user=user, session="7") == home


# -- a new configuration --------------------------------------------------------------------------------------------


async def test_a_reload_that_leaves_the_time_out_alone_leaves_its_clock_alone(stack: AsyncExitStack) -> None:
    it = await scene(stack, "a")
    limits = it.router._limits
    rule = RoutingRule.model_validate({"use": "block"})
    it.router.configure(RoutingConfig(timeout=TIMEOUT, strategy="ordered"), (rule,))
    assert it.router._limits is limits
    with pytest.raises(RequestError) as caught:
        await it.ask()
    assert caught.value.failure is Failure.DENIED
    it.router.configure(RoutingConfig(timeout=2 * TIMEOUT), ())
    assert it.router._limits is not limits
    assert it.router._limits.answer.seconds == 2 * TIMEOUT


@pytest.mark.parametrize(("timeout", "take"), [(10.0, 3.0), (60.0, 3.0), (9.0, 3.0), (3.0, 1.0)])
async def test_a_silent_exit_leaves_time_to_ask_others(timeout: float, take: float) -> None:
    assert exit_client.Limits(asyncio.get_running_loop(), timeout).take.seconds == take
