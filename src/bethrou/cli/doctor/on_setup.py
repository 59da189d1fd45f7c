"""What is on this machine: the configuration, whether the program runs, its keys, its ports."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bethrou import __version__
from bethrou.cli.doctor.facts import CLIENT, Facts, FileFact, PortFact
from bethrou.cli.doctor.finding import Finding, ok, problem, warning
from bethrou.quantities import duration

STARTS = {"client": "`bethrou-client connect`", "node": "`bethrou-node start`"}


def configuration(facts: Facts) -> Iterator[Finding]:
    """Whether the configuration can be used."""
    path = facts.config_path
    if facts.config_error:
        yield problem("config", facts.config_error, "correct it; what runs goes on with what it has", path)
    elif facts.config is not None:
        yield ok("config", f"{path} can be used", path)
    elif facts.status is not None:
        yield ok("config", f"this {facts.role} was started without a file")


def running(facts: Facts) -> Iterator[Finding]:
    """Whether it runs, and takes something new."""
    status = facts.status
    if status is None:
        text = f"{facts.not_running}: what needs a running {facts.role} was left out"
        yield warning("running", text, f"start it with {STARTS[facts.role]}, then ask again")
    elif status.draining:
        fix = f"start another one with {STARTS[facts.role]}, or wait until this one has ended and start it again"
        yield warning("running", f"this {facts.role} is stopping and takes nothing new", fix)
    elif status.version != __version__:
        text = f"this {facts.role} runs as version {status.version}; installed is {__version__}"
        yield warning("running", text, f"restart the {facts.role}")
    else:
        yield ok("running", f"version {status.version}, up {duration(status.uptime)}")


def secrets(facts: Facts) -> Iterator[Finding]:
    """Whether keys can be read, and by whom."""
    for file in facts.files:
        yield _secret(file, facts)


def _secret(file: FileFact, facts: Facts) -> Finding:
    path, what, quoted = file.path, file.what, shlex.quote(file.path)
    if file.error:
        return problem("keys", file.error, _REMEDIES.get(what, "make it readable for this user"), path)
    for rights, whose, verdict in (
        (file.mode & 7, "everybody", problem),
        (file.mode >> 3 & 7, "its group", warning),
    ):
        if rights:
            text = f"{whose} on this machine {_may(rights)} the {what} {path} (mode {file.mode:04o})"
            return verdict("keys", text, f"chmod 600 {quoted}", path)
    if file.owner not in (None, facts.user):
        text = f"the {what} {path} belongs to user {file.owner}, you are user {facts.user}"
        return warning("keys", text, f"chown {facts.user} {quoted}, or run both as one user", path)
    if file.fingerprint and facts.status is not None and file.fingerprint != facts.status.network:
        text = f"the {what} {path} is not the one that the running {facts.role} uses"
        return warning("keys", text, f"restart the {facts.role}, or put the former key back", path)
    return ok("keys", f"the {what} {path} is its owner's alone (mode {file.mode:04o})", path)


def _may(rights: int) -> str:
    """What three bits of a mode permit."""
    verbs = [verb for bit, verb in ((4, "read"), (2, "change"), (1, "run")) if rights & bit]
    return f"can {' and '.join(verbs)}"


_REMEDIES = {
    "network key": "copy network.key from another member, or make one with `bethrou key new` for a new network",
    "identity": "put the former key back, or name another file: with another key it is somebody else to others",
}


def ports(facts: Facts) -> Iterator[Finding]:
    """Whether what it listens on is its own."""
    for port in facts.ports:
        if port.taken is not None:
            yield _port(port, facts)


def _port(port: PortFact, facts: Facts) -> Finding:
    where = port.address
    holders = ", ".join(f"process {number} ({name})" for number, name in port.holders)
    if facts.status is None:
        if not port.taken:
            return ok("ports", f"{where} is free", where)
        key = "server.listen" if facts.role == CLIENT else "listen"
        text = f"{where} is taken by {holders or 'a process of another user'}"
        return problem("ports", text, f"stop that, or choose another {key}", where)
    if not port.taken:
        fix = f"restart the {facts.role}"
        return problem("ports", f"nobody listens on {where}, although the {facts.role} runs", fix, where)
    if port.holders and facts.status.pid not in (0, *(number for number, _ in port.holders)):
        fix = f"stop that, then restart the {facts.role}"
        return problem("ports", f"{where} is taken by {holders}, not by the running {facts.role}", fix, where)
    return ok("ports", f"{where} is held by this {facts.role}{f', {holders}' if holders else ''}", where)
