"""What each path of the control socket does: from a request to a method of `Control`, and from there to JSON.

    GET    /v1/status            StatusSnapshot
    GET    /v1/connections       {"connections": [ConnectionSnapshot]}
    GET    /v1/why?target=H:P    WhySnapshot; with &user=U for that user name
    GET    /v1/reachability      ReachabilitySnapshot; has peers asked, and takes as long as they do
    GET    /v1/events            server-sent events, without an end
    GET    /v1/metrics           Prometheus' text format
    POST   /v1/reload            {"changes": [line]}
    POST   /v1/drain             {"draining": true}
    DELETE /v1/connections/ID    {"closed": ID}

An error is {"error": text}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote

from bethrou.config import HostPort, parse_listen
from bethrou.errors import NotOffered, UserError
from bethrou.ops.control import Control, Metrics
from bethrou.ops.http_messages import Answer, HttpError, Request, answer_json
from bethrou.ops.json_text import to_json
from bethrou.snapshots import ConnectionSnapshot

_PREFIX = "/v1/"
_METHODS = {
    "status": "GET",
    "connections": "GET",
    "connections/ID": "DELETE",
    "why": "GET",
    "reachability": "GET",
    "events": "GET",
    "metrics": "GET",
    "reload": "POST",
    "drain": "POST",
}
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_QUERY_FIELDS = 8  # two are known
_SLICE = 500  # connections turned into JSON before the data path has its turn again: some two milliseconds


class Routes:
    """The paths of one control. `metrics` makes the text of its metrics, where there are any."""

    def __init__(self, control: Control, metrics: Metrics | None) -> None:
        self._control = control
        self._metrics = metrics
        self._reloading = asyncio.Lock()

    async def answer(self, request: Request) -> Answer | None:
        """Do what `request` asks for; None: the stream of events is the answer. Raises HttpError."""
        if request.from_browser:
            raise HttpError(403, "requests of web pages (with an Origin) are refused")
        split = request.url
        if not split.path.startswith(_PREFIX):
            raise _no_such_path()
        what, slash, connection = split.path.removeprefix(_PREFIX).partition("/")
        if slash:
            what += "/ID"
        if what not in _METHODS or (slash and not connection):
            raise _no_such_path()
        if request.method != _METHODS[what]:
            raise HttpError(405, f"{split.path} takes {_METHODS[what]}", [("Allow", _METHODS[what])])
        try:
            return await self._act(what, unquote(connection), split.query)
        except NotOffered as error:
            raise HttpError(404, str(error)) from None
        except UserError as error:
            raise HttpError(400, str(error)) from None

    async def _act(self, what: str, connection: str, query: str) -> Answer | None:
        match what:
            case "status":
                return answer_json(self._control.status())
            case "connections":
                return Answer(200, await _listed(self._control.connections()))
            case "connections/ID":
                if not self._control.close_connection(connection):
                    raise HttpError(404, "there is no such connection (any more)")
                return answer_json({"closed": connection})
            case "why":
                target, user = _wanted(query)
                return answer_json(self._control.why(target.host, target.port, user))
            case "reachability":
                return answer_json(await self._control.reachability())
            case "metrics":
                if self._metrics is None:
                    raise HttpError(404, "this program has no metrics")
                return Answer(200, self._metrics().encode(), _METRICS_TYPE)
            case "reload":
                return answer_json({"changes": await self._reload()})
            case "drain":
                self._control.drain()
                return answer_json({"draining": True})
            case _:  # events
                return None

    async def _reload(self) -> list[str]:
        async with self._reloading:
            try:
                return list(await self._control.reload())
            except NotOffered:
                raise
            except UserError as error:  # the request is fine, a file stands in its way
                raise HttpError(409, str(error)) from None


def _no_such_path() -> HttpError:
    known = ", ".join(f"{method} {_PREFIX}{what}" for what, method in _METHODS.items())
    return HttpError(404, f"there is no such path; there are {known}")


def _wanted(query: str) -> tuple[HostPort, str]:
    """Target and user of a `why`. Raises UserErrors and HttpError."""
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise HttpError(400, f"the query has more than {_MAX_QUERY_FIELDS} fields") from None
    if any(len(values) > 1 for values in fields.values()):
        raise HttpError(400, "the query has a field twice")
    target = parse_listen(fields.get("target", [""])[0])
    if not (target.host and target.port):
        raise HttpError(400, "target must be HOST:PORT, with a port from 1 to 65535")
    return target, fields.get("user", [""])[0]


async def _listed(connections: Sequence[ConnectionSnapshot]) -> bytes:
    """JSON of what may be tens of thousands, made in slices: the data path waits for none longer than for one."""
    pieces = []
    for start in range(0, len(connections), _SLICE):
        pieces.append(to_json(connections[start : start + _SLICE])[1:-1])
        await asyncio.sleep(0)
    return b'{"connections":[%b]}\n' % b",".join(pieces)
