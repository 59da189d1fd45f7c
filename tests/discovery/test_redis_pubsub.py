"""Subscriptions against a real Redis, which is absent, killed, frozen, locked up, or throws us out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bethrou.discovery.redis_connection import MAX_REPLY
from bethrou.discovery.redis_pubsub import REFUSED_RETRY, SILENCE
from bethrou.errors import ConfigError
from discovery.redis_network import SECRET, TOPIC, Line, line
from live.redis_server import RedisServer, redis_server
from live.waiting import until
from net.clock import Clock, turns


async def test_what_others_publish_arrives_and_what_is_published_reaches_them(server: RedisServer) -> None:
    async with server.wiretap() as others, line(server, (TOPIC, "second")) as ours:
        await ours.up()
        assert await others.publish(TOPIC, b"one") == 2
        assert await others.publish("second", b"\xff\x00") == 2
        await until(lambda: ours.box.messages == [b"one", b"\xff\x00"])
        assert await ours.pubsub.publish("elsewhere", b"two")
        assert await others.next("elsewhere") == ("elsewhere", b"two")
        assert ours.pubsub.ok
        assert ours.detail == f"listening on {TOPIC} at 127.0.0.1:{server.port}"


async def test_a_server_that_comes_late_is_found_within_five_seconds_however_long_it_was_away(
    absent: RedisServer, clock: Clock
) -> None:
    async with line(absent) as ours:
        for _ in range(10):
            await clock.forward(30)
        while "refused" not in ours.detail:  # an attempt may lose its time to the clock's next step
            await clock.forward(0.25)
        assert not ours.pubsub.ok
        assert not await ours.pubsub.publish(TOPIC, b"lost")
        absent.start()
        await clock.forward(5)
        await ours.up()
        assert ours.box.subscriptions == [False]


async def test_a_server_that_is_killed_and_started_is_subscribed_again(server: RedisServer) -> None:
    async with line(server) as ours:
        await ours.up()
        assert await ours.pubsub.publish(TOPIC, b"before")
        await until(lambda: ours.box.messages == [b"before"])
        server.kill()
        await ours.down()
        server.start()
        async with asyncio.timeout(5):
            await ours.up(2)
        assert ours.box.subscriptions == [False, True]
        assert await ours.pubsub.publish(TOPIC, b"after")
        await until(lambda: ours.box.messages == [b"before", b"after"])


async def test_a_server_that_freezes_is_noticed_within_ten_seconds_and_used_when_it_goes_on(
    server: RedisServer, clock: Clock
) -> None:
    async with line(server) as ours:
        await ours.up()
        server.freeze()
        began = clock.now
        while ours.pubsub.up:
            await clock.forward(0.5)
        assert clock.now - began < 10
        assert f"silent for {2 * SILENCE:g} s" in ours.detail
        await clock.forward(20)
        assert "does not answer" in ours.detail
        server.thaw()
        await clock.forward(5)
        await ours.up(2)


async def test_a_server_that_says_nothing_for_long_is_not_taken_for_frozen(
    server: RedisServer, clock: Clock
) -> None:
    async with line(server) as ours:
        await ours.up()
        for _ in range(6):
            await clock.forward(SILENCE + 0.5)
            await until(lambda: server.do("CLIENT", "LIST", "TYPE", "pubsub").count(b"cmd=ping") == 1)
        assert ours.box.subscriptions == [False]


async def test_a_wrong_password_is_told_without_it_and_asked_again_until_it_is_right(
    server: RedisServer, clock: Clock
) -> None:
    server.do("CONFIG", "SET", "requirepass", "another")
    async with line(server, user="", **{"pass": SECRET}) as ours:
        await until(lambda: "password" in ours.detail)
        assert "does not accept the password of the default user" in ours.detail
        assert f"again every {REFUSED_RETRY:g} s" in ours.detail
        refused = _refusals(server)
        await clock.forward(0.7 * REFUSED_RETRY)
        assert _refusals(server) == refused
        server.do("CONFIG", "SET", "requirepass", SECRET)
        await clock.forward(0.6 * REFUSED_RETRY)
        await ours.up()
        assert await ours.pubsub.publish(TOPIC, b"in")


def _refusals(server: RedisServer) -> int:
    return int(server.do("ACL", "LOG").__len__())


async def test_a_password_that_is_missing_is_told(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "requirepass", SECRET)
    async with line(server) as ours:
        await until(lambda: "wants a password" in ours.detail)


async def test_a_password_where_there_is_none_is_told(server: RedisServer) -> None:
    async with line(server, **{"pass": SECRET}) as ours:
        await until(lambda: "no password for the default user, yet one is configured" in ours.detail)


async def test_a_server_that_repeats_the_password_in_its_error_is_not_quoted(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--rename-command", "AUTH", "LOGIN") as server:
        async with line(server, **{"pass": SECRET}) as ours:
            await until(lambda: "answers ERR when asked to log in" in ours.detail)


@pytest.mark.parametrize("lacking", ["subscribe", "publish"])
async def test_what_the_access_list_lacks_is_told(server: RedisServer, lacking: str) -> None:
    rights = ["+subscribe", "+publish", f"&{TOPIC}"]
    rights.remove(f"+{lacking}")
    server.do("ACL", "SETUSER", "alice", "on", f">{SECRET}", "resetchannels", *rights)
    async with line(server, user="alice", **{"pass": SECRET}) as ours:
        if lacking == "publish":
            await ours.up()
            assert not await ours.pubsub.publish(TOPIC, b"no")
            assert not await ours.pubsub.publish(TOPIC, b"no")
        await until(lambda: f'does not let user "alice" {lacking}' in ours.detail)
        assert not ours.pubsub.ok


async def test_a_user_who_may_not_even_ping_is_served(server: RedisServer, clock: Clock) -> None:
    server.do(
        "ACL", "SETUSER", "alice", "on", f">{SECRET}", "resetchannels", "+subscribe", "+publish", f"&{TOPIC}"
    )
    async with line(server, user="alice", **{"pass": SECRET}) as ours:
        await ours.up()
        for _ in range(4):
            await clock.forward(SILENCE + 0.5)
            await until(lambda: b"NOPERM" in _error_stats(server))
        assert await ours.pubsub.publish(TOPIC, b"yes")
        assert ours.box.subscriptions == [False]


def _error_stats(server: RedisServer) -> bytes:
    return str(server.do("INFO", "errorstats")).encode()


async def test_a_connection_that_redis_cuts_for_its_full_buffer_is_made_again(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
    async with line(server) as ours:
        await ours.up()
        server.do("PUBLISH", TOPIC, bytes(1 << 20))
        await ours.up(2)
        assert ours.box.messages == []


async def test_both_connections_are_made_again_when_somebody_kills_them(server: RedisServer) -> None:
    async with line(server) as ours:
        await ours.up()
        assert await ours.pubsub.publish(TOPIC, b"one")
        server.do("CLIENT", "KILL", "TYPE", "pubsub")
        server.do("CLIENT", "KILL", "TYPE", "normal")
        await ours.up(2)
        assert await ours.pubsub.publish(TOPIC, b"two")


async def test_a_message_without_end_costs_the_connection_not_the_memory(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    async with line(server) as ours:
        await ours.up()
        server.do("PUBLISH", TOPIC, bytes(MAX_REPLY + (1 << 20)))
        await ours.up(2)
        assert ours.box.messages == []


async def test_a_long_message_arrives_whole(server: RedisServer) -> None:
    async with line(server) as ours:
        await ours.up()
        server.do("PUBLISH", TOPIC, b"x" * (8 << 20))
        await until(lambda: ours.box.messages == [b"x" * (8 << 20)])


async def test_closing_waits_for_no_server(server: RedisServer) -> None:
    async with line(server) as ours:
        await ours.up()
        assert await ours.pubsub.publish(TOPIC, b"one")
        server.freeze()
        async with asyncio.timeout(1):
            await ours.pubsub.close()


async def test_a_full_server_is_told(server: RedisServer) -> None:
    server.do("CONFIG", "SET", "maxclients", 1)
    async with line(server) as ours:
        await ours.up()
        assert not await ours.pubsub.publish(TOPIC, b"one")
        assert "has no room for another client" in ours.detail


_SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(TOPIC), TOPIC.encode())
_PUSH = b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR \xff\xfe \x1b[2J\r\n",
        b"-\r\n",
        b"-LOADING soon\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b":5\r\n$9999999999999\r\n",
        b"*1\r\n" * 5000,
        b"*3\r\n$9\r\nsubscribe\r\n$2\r\n\xff\xfe\r\n:1\r\n",
        b"*3\r\n-ERR no\r\n*1\r\n-NOAUTH no\r\n%1\r\n+a\r\n#t\r\n",
        _SUBSCRIBED + b"$-1\r\n" * 5000,
        _SUBSCRIBED + b"-ERR no\r\n" * 5000,
        _SUBSCRIBED + _PUSH * 5000,
        _SUBSCRIBED + b"*3\r\n$7\r\nmessage\r\n:1\r\n*0\r\n",
    ],
)
async def test_nonsense_of_a_server_costs_its_connection_at_most(
    absent: RedisServer, nonsense: bytes
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1)
        writer.write(nonsense)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "{}:{}".format(*listener.sockets[0].getsockname())
    async with listener, line(absent, address=address) as ours:
        await until(lambda: connections >= 2 or "asking again" in ours.detail)
        assert ours.detail.isprintable()


async def test_it_can_be_closed_at_any_moment(server: RedisServer) -> None:
    for moment in range(60):
        async with line(server) as ours:
            for _ in range(moment % 20):
                server.do(
                    "PING"
                )  # Redis has had its turn: in this process one turn of the loop makes the difference
                await turns(1)
            async with asyncio.timeout(5):
                await ours.pubsub.close()


@pytest.mark.parametrize("password", ["", SECRET])
async def test_closing_waits_for_no_login(server: RedisServer, password: str) -> None:
    server.freeze()
    async with line(server, **{"pass": password}) as ours:
        await turns(50)
        async with asyncio.timeout(1):
            await ours.pubsub.close()


# -- TLS --------------------------------------------------------------------------------------------------------


async def test_tls_with_a_certificate_of_the_named_authority(secure: RedisServer) -> None:
    async with line(secure) as ours:
        await ours.up()
        assert await ours.pubsub.publish(TOPIC, b"one")
        await until(lambda: ours.box.messages == [b"one"])
        secure.freeze()
        async with asyncio.timeout(1):
            await ours.pubsub.close()


async def test_closing_waits_for_no_tls_handshake(secure: RedisServer) -> None:
    secure.freeze()
    async with line(secure) as ours:
        await turns(50)
        async with asyncio.timeout(1):
            await ours.pubsub.close()


async def test_a_certificate_of_nobody_we_know_is_refused(secure: RedisServer) -> None:
    async with line(secure, ca=None) as ours:
        await until(lambda: "its certificate is not accepted" in ours.detail)
        assert "again every" in ours.detail


async def test_a_certificate_for_another_name_is_refused(secure: RedisServer) -> None:
    async with line(secure, address=secure.url.replace("127.0.0.1", "localhost")) as ours:
        await until(lambda: "its certificate is not accepted: Hostname mismatch" in ours.detail)


async def test_a_server_that_wants_our_certificate_is_told(secure: RedisServer) -> None:
    secure.do("CONFIG", "SET", "tls-auth-clients", "yes")
    async with line(secure) as ours:
        # It says so and resets the connection; which of both is seen first is chance.
        await until(lambda: "certificate required" in ours.detail or _is_hung_up(ours))


async def test_a_client_without_tls_is_told_that_the_server_hangs_up(secure: RedisServer) -> None:
    async with line(secure, address=secure.url.replace("rediss", "redis")) as ours:
        await until(lambda: _is_hung_up(ours))


def _is_hung_up(ours: Line) -> bool:
    return "closed the connection" in ours.detail or "reset" in ours.detail


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("no PEM", "no certificates in PEM")]
)
async def test_a_ca_file_that_is_no_use_is_the_users_slip(
    absent: RedisServer, tmp_path: Path, content: str | None, reason: str
) -> None:
    ca = tmp_path / "some.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        async with line(absent, address="rediss://127.0.0.1", ca=ca):
            pass
