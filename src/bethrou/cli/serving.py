"""A client or node that has started, with all that is around it: control socket, metrics, reloading, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bethrou.cli.control_endpoint import ControlEndpoint
from bethrou.cli.lifecycle import Service, Signals, drain_and_close
from bethrou.cli.metrics_endpoint import MetricsEndpoint
from bethrou.cli.process import settle
from bethrou.cli.reloading import FileWatch, Reloading
from bethrou.cli.said import say
from bethrou.cli.service_manager import ServiceManager
from bethrou.cli.state_dir import StateDirectory
from bethrou.config import ClientConfig, NodeConfig
from bethrou.ops.control import Control
from bethrou.ops.event_feed import EventFeed
from bethrou.ops.logs import Logger


class ConfiguredService(Service, Protocol):
    """A service that has a configuration, which may be another one after a reload."""

    @property
    def config(self) -> ClientConfig | NodeConfig:
        """As it is obeyed now."""


class ServiceControl(Control, Protocol):
    """A control that has something to end."""

    async def close(self) -> None:
        """End it."""


async def serve_until_stopped(
    service: ConfiguredService,
    control: ServiceControl,
    feed: EventFeed,
    signals: Signals,
    state: StateDirectory | None,
    log: Logger,
    *,
    path: Path | None,
    words: str,
    warnings: Sequence[str] = (),
    ready: str,
    stopping: Callable[[], None],
) -> None:
    """Serve until the first signal, then come to an end.

    `path`: the file of its configuration, if it has one. `words` are said when all is there, `ready` to the service
    manager; `stopping` logs that it stops.
    """
    loop = asyncio.get_running_loop()
    metrics = MetricsEndpoint.offer(loop, service.config.metrics, control, feed)
    text = metrics.text if metrics is not None else None
    endpoint = ControlEndpoint.offer(loop, state, control, feed, log, text)
    reloading = Reloading(loop, control.reload, log)
    watch = FileWatch(loop, path, lambda: service.config.watch, reloading.now) if path is not None else None
    say(words)
    for warning in warnings:
        log.warning(warning)
    if metrics is not None:
        log.info("metrics for Prometheus are served", address=f"http://{metrics.address}/metrics")
    settle()
    manager = ServiceManager.of_this_process(loop)
    manager.ready(ready)
    await signals.first.wait()
    manager.stopping()
    stopping()
    if watch is not None:
        watch.close()
    await reloading.close()
    await drain_and_close(service, service.config.grace, signals)
    await control.close()
    if endpoint is not None:
        await endpoint.close()
    if metrics is not None:
        await metrics.close()
    manager.close()
    log.info("stopped")
    log.flush()
