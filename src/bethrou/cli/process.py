"""What a process needs for thousands of connections: a cipher, an event loop, descriptors, a calm garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from bethrou.ops.logs import Logger
from bethrou.wire.salsa20_library import Salsa20, best_salsa20

LOOP_VARIABLE = "BETHROU_EVENT_LOOP"
"""`asyncio` in this environment variable has uvloop left out, for whoever looks for a fault."""

_COLLECT_AFTER = (50_000, 20, 50)
"""A connection makes some hundred objects and few circles: at Python's 700 a tenth of the time went into looking."""


def prepare_cipher(log: Logger, find: Callable[[], Salsa20] = best_salsa20) -> None:
    """Have the private network's cipher ready, and warn when it is not the fast one. Raises UserError for none."""
    shortcoming = find().shortcoming
    if shortcoming:
        log.warning("PyCryptodome encrypts here, which makes links slower", reason=shortcoming)


def run_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run `main` in an event loop made for it, then end the process with status 0."""
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run_and_leave(main))
    raise AssertionError("the process has ended")


async def _run_and_leave(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` and end the process.

    Not by leaving the loop: that waits for threads which look a name up, and a name server that never answers would
    hold up the end of a program that has closed everything.
    """
    await main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop that works here."""
    if os.environ.get(LOOP_VARIABLE) != "asyncio":
        try:
            import uvloop

            return uvloop.new_event_loop()
        except (
            ImportError,
            OSError,
            RuntimeError,
        ):  # no build for this system, or a sandbox that it dislikes
            pass
    return asyncio.new_event_loop()


def raise_descriptor_limit() -> None:
    """Let this process open as many files as the system permits: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS says "unlimited" and means OPEN_MAX
        return


def settle() -> None:
    """Call when everything is set up: what is there now stays, so the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
