"""What can be configured: client.yaml (`ClientConfig`) and the node's options (`NodeConfig`).

Validated once, frozen, passed in. The keys of the Go program (key, server, routing, nodes, discovery, log)
keep their names and meaning; what is ours beside them is marked so. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, model_validator

from bethrou.config.fields import (
    Block,
    Duration,
    FormatField,
    Label,
    LevelField,
    ListenField,
    LogFormat,
    LogLevel,
    MemberPolicy,
    MemberPolicyField,
    MultiaddrField,
    PeerAddressField,
    PeerIdField,
    PositiveDuration,
    ProxyField,
    RateField,
    RelayAddressField,
    ResolverField,
    RuleField,
    Security,
    SecurityField,
    SizeField,
    StickyBy,
    StickyByField,
    Strategy,
    StrategyField,
    refuse,
)
from bethrou.config.rules import MAX_RULES, RoutingRule
from bethrou.config.values import HostPort, ResolverChoice
from bethrou.printable import quoted
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId

MAX_CREDENTIAL = 255
"""Longest user name and password in bytes: RFC 1929 gives each of them one length byte."""

Password = SecretStr

_SECURITY = (Security.NOISE, Security.TLS)


def _check_users(users: Mapping[str, Password]) -> Mapping[str, Password]:
    for name, password in users.items():
        _check_credentials(name, password)
    return users


def _check_credentials(name: str, password: Password) -> None:
    if not 0 < len(name.encode()) <= MAX_CREDENTIAL or not name.isprintable():
        raise refuse(f"user {quoted(name, 60)} must have 1 to {MAX_CREDENTIAL} printable bytes")
    if "," in name or "=" in name:
        # In a SOCKS user name these begin the routing options, so such a user could never log in.
        raise refuse(f"user {quoted(name, 60)} must not contain , or =")
    if not 0 < len(password.get_secret_value().encode()) <= MAX_CREDENTIAL:
        raise refuse(f"the password of user {quoted(name, 60)} must have 1 to {MAX_CREDENTIAL} bytes")


class ServerConfig(Block):
    """`server`: where applications connect, and who may."""

    listen: ListenField = HostPort("127.0.0.1", 1080)
    auth: bool | None = None
    """Whether `user` and `pass` count; when not said, they do as soon as they are there (Go: they do not)."""
    user: str | None = None
    password: Password | None = Field(default=None, alias="pass")
    users: Annotated[Mapping[str, Password], AfterValidator(_check_users)] = Field(default={})
    """Ours: more users, name to password."""
    open: bool = False
    """Ours: let everyone who reaches a listener beyond loopback use it without a password."""

    @property
    def credentials(self) -> Mapping[str, Password]:
        """Every user who may log in; none means that nobody has to."""
        if self.auth is False or self.user is None or self.password is None:
            return self.users
        return {**self.users, self.user: self.password}

    @model_validator(mode="after")
    def _check(self) -> ServerConfig:
        if self.auth is not False:
            self._check_user()
        if not (self.credentials or self.open or self.listen.is_loopback):
            raise refuse(
                f"listen {quoted(str(self.listen))} can be reached from other machines and no user is set: "
                "set user and pass, or open: true (option --open) to let everybody in"
            )
        return self

    def _check_user(self) -> None:
        if (self.user is None) != (self.password is None) or (self.auth and not self.credentials):
            raise refuse("auth needs both user and pass")
        if self.user is not None and self.password is not None:
            _check_credentials(self.user, self.password)
            if self.user in self.users:
                raise refuse(f"user {quoted(self.user, 60)} is given twice, in user and in users")


class RoutingConfig(Block):
    """`routing`: which exit serves a request."""

    strategy: StrategyField = Strategy.RANDOM
    health: Duration = 30.0
    """Between two measurements of an exit; 0 turns them off."""
    timeout: PositiveDuration = 10.0
    """How long a request may take to find an exit that carries it out, all attempts together."""
    pool: int = Field(default=8, ge=1, le=256)
    """Ours: how many exits are kept connected."""
    wait: Duration = 5.0
    """Ours: how long a request waits when no exit can be asked; then it is refused."""
    sticky_by: StickyByField = StickyBy.DESTINATION
    """Ours: what the strategy `sticky` keeps together."""


class ExitEntry(Block):
    """One of `nodes`: an exit and the ways to it."""

    id: PeerIdField | None = None
    """May be left out when an address ends in /p2p/ID (Go: required)."""
    addrs: tuple[MultiaddrField, ...] = Field(default=(), max_length=32)
    relay: MultiaddrField | None = None
    """A relay through which the exit can be reached: its address, ending in /p2p/ID of the relay."""

    @property
    def peer_id(self) -> PeerId:
        """The exit's peer ID, from `id` or from an address."""
        return self._named()[0]

    @property
    def ways(self) -> tuple[Multiaddr, ...]:
        """Every address at which it may be, the one through its relay last."""
        return self.addrs if self.relay is None else (*self.addrs, self.relay.circuit())

    def _named(self) -> list[PeerId]:
        named = [self.id, *(address.peer_id for address in self.addrs)]
        return list(dict.fromkeys(peer for peer in named if peer is not None))

    @model_validator(mode="after")
    def _check(self) -> ExitEntry:
        named = self._named()
        if not self.addrs and self.relay is None:
            raise refuse("addrs or relay is needed")
        if not named:
            raise refuse("id is needed, or an address that ends in /p2p/ID")
        if len(named) > 1:
            raise refuse(f"id and addrs name different peers: {named[0]} and {named[1]}")
        if self.relay is not None and (self.relay.peer_id is None or self.relay.is_circuit):
            raise refuse("relay must be the relay's own address and end in /p2p/ID of the relay")
        return self


class DiscoveryConfig(Block):
    """`discovery`: finding exits through Redis."""

    enabled: bool = False
    address: SecretStr | None = None
    """redis://[USER:PASSWORD@]HOST:PORT; secret because of the password that may be in it."""
    topic: str | None = None
    timeout: PositiveDuration = 10.0
    user: str | None = None
    password: Password | None = Field(default=None, alias="pass")
    ca: Path | None = None
    """Ours: certificates by which a rediss:// server is known, in place of the system's."""
    sealed: bool = False
    """Ours: nothing readable for whoever runs Redis; members in Go can then not read it either."""
    members: bool = True
    """Ours: members tell each other which exits there are; needs no server."""

    @model_validator(mode="after")
    def _check(self) -> DiscoveryConfig:
        if self.enabled and self.address is None:
            raise refuse("enabled needs an address (redis://HOST:PORT)")
        return self


class LogConfig(Block):
    """`log`: what is written to stderr."""

    level: LevelField = LogLevel.INFO
    format: FormatField = LogFormat.TEXT
    hide_destinations: bool = False
    """Ours: no log line names a destination."""


class ClientConfig(Block):
    """client.yaml."""

    key: Path | None = None
    """The network key file; None: look for network.key."""
    identity: Path | None = None
    """Ours: this client's private key, made when it is not there; None: another one at each start, as with Go."""
    operator: PeerIdField | None = None
    """Ours: whose member list counts, a peer ID."""
    members: MemberPolicyField = MemberPolicy.OPEN
    """Ours: whether only nodes of that list serve this client."""
    server: ServerConfig = ServerConfig()
    routing: RoutingConfig = RoutingConfig()
    nodes: tuple[ExitEntry, ...] = Field(default=(), max_length=10_000)
    rules: tuple[RoutingRule, ...] = Field(default=(), max_length=MAX_RULES)
    """Ours: which requests go where; the first that matches decides."""
    discovery: DiscoveryConfig = DiscoveryConfig()
    log: LogConfig = LogConfig()
    proxy: ProxyField | None = None
    """Ours: an HTTP or SOCKS5 proxy through which members are reached; no holes are punched then."""
    tls_ca: Path | None = None
    """Ours: certificates by which /wss servers are known, in place of the system's."""
    punch: bool = True
    """Ours: listen on a free port, so that links through relays can be replaced by direct ones also behind NAT."""
    security: SecurityField = _SECURITY
    """Ours: how links are secured, the one to propose first in front."""
    half_close_wait: Duration = 10.0
    """Ours: how long an application's end of sending is held back from an exit that speaks only 1.0.0."""
    grace: Duration = 30.0
    """Ours: how long open connections may go on when the client is stopped."""
    metrics: ListenField | None = None
    """Ours: where metrics are served for Prometheus; None: nowhere."""
    watch: bool = False
    """Ours: obey this file anew as soon as it changes."""

    @model_validator(mode="after")
    def _check(self) -> ClientConfig:
        if not self.nodes and not self.discovery.enabled:
            raise refuse("nodes: no exit node is given and discovery is off")
        _check_operator(self.operator, self.members)
        if self.operator is not None and self.identity is None:
            raise refuse("operator needs an identity: a member list knows devices by their keys")
        seen: dict[PeerId, int] = {}
        for index, entry in enumerate(self.nodes):
            first = seen.setdefault(entry.peer_id, index)
            if first != index:
                raise refuse(f"nodes[{index}]: the same peer as nodes[{first}]; give all its addrs there")
        return self


def _check_operator(operator: PeerId | None, members: MemberPolicy) -> None:
    if members is MemberPolicy.REQUIRED and operator is None:
        raise refuse("members: required needs an operator, whose list it is")


class LogOptions(Block):
    """The client's options `--log-...`; None: as the file says."""

    level: LevelField | None = None
    format: FormatField | None = None
    hide_destinations: bool | None = None


class ClientOptions(Block):
    """The options of a client, each in the place of what client.yaml says. An option `--some-name` is `some_name`."""

    key: Path | None = None
    listen: ListenField | None = None
    open: bool | None = None
    security: SecurityField | None = None
    proxy: ProxyField | None = None
    grace: Duration | None = None
    metrics: ListenField | None = None
    log: LogOptions = LogOptions()

    def as_configuration(self) -> dict[str, Any]:
        """The options that were given, under the keys of client.yaml."""
        places: dict[str, Any] = {
            "key": self.key,
            "server": {"listen": self.listen, "open": self.open},
            "security": self.security,
            "proxy": self.proxy,
            "grace": self.grace,
            "metrics": self.metrics,
            "log": dict(self.log),
        }
        return _given(places)


def _given(places: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _given(value) if isinstance(value, dict) else value for key, value in places.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


class NodeConfig(Block):
    """The options of a node, or its node.yaml. An option `--some-name` is the field `some_name`, in both."""

    listen: tuple[MultiaddrField, ...] = Field(
        default=(Multiaddr.parse("/ip4/0.0.0.0/tcp/4000"),), min_length=1
    )
    key: Path | None = None
    """The network key file; None: look for network.key."""
    identity: Path = Path("node.key")
    """The node's private key; made when it is not there."""
    operator: PeerIdField | None = None
    """Whose member list counts, and whose invites are redeemed here: a peer ID."""
    members: MemberPolicyField = MemberPolicy.OPEN
    """Whether only members of that list get in, or every holder of the network key whom it has not removed."""
    allow: tuple[RuleField, ...] = ()
    """Destinations that are allowed although the default policy denies them."""
    deny: tuple[RuleField, ...] = ()
    """Destinations that are denied, also when `allow` names them."""
    resolver: ResolverField = ResolverChoice()
    security: SecurityField = _SECURITY
    """How links are secured, the one to propose first in front."""
    grace: Duration = 30.0
    """How long open connections may go on when the node is stopped."""
    name: Label | None = None
    tags: tuple[Label, ...] = Field(default=(), max_length=16)
    proxy: ProxyField | None = None
    """An HTTP or SOCKS5 proxy through which members are reached; no holes are punched then."""
    announce: tuple[MultiaddrField, ...] = Field(default=(), max_length=16)
    """Where this node can be reached, too: by way of a web server, for example."""
    tls_certificate: Path | None = None
    """With its chain, PEM, for listening on /wss."""
    tls_key: Path | None = None
    tls_ca: Path | None = None
    """Certificates by which /wss servers are known, in place of the system's."""
    peers: tuple[PeerAddressField, ...] = Field(default=(), max_length=256)
    """Other nodes of the network, to which links are kept."""
    connect_relay: tuple[RelayAddressField, ...] = Field(default=(), max_length=16)
    """Relays through which this node can be reached, too."""
    auto_relay: bool = True
    """Whether relays that are heard of are used when nobody can reach this node; `--no-auto-relay` says no."""
    relay_mode: bool = False
    """Whether this node relays for other members; the `relay_...` fields say how much."""
    no_exit: bool = False
    """Whether this node carries no requests: it is a relay and nothing else."""
    punch: bool = True
    """Replace links through relays by direct ones also behind NAT (option `--no-punch`: do not)."""
    relay_reservations: int = Field(default=2048, ge=1, le=65536)
    relay_circuits: int = Field(default=4096, ge=1, le=65536)
    relay_circuits_per_peer: int = Field(default=1024, ge=1, le=65536)
    relay_rate: RateField = 0
    relay_circuit_rate: RateField = 0
    relay_duration: Duration = 0.0
    relay_data: SizeField = 0
    discovery: DiscoveryConfig = DiscoveryConfig()
    log: LogConfig = LogConfig()
    metrics: ListenField | None = None
    """Where metrics are served for Prometheus; None: nowhere."""
    watch: bool = False
    """Obey node.yaml anew as soon as it changes."""

    @model_validator(mode="after")
    def _check(self) -> NodeConfig:
        _check_operator(self.operator, self.members)
        if self.no_exit and not self.relay_mode:
            raise refuse(
                "a node that is no exit (--no-exit) has nothing to do but to relay: say --relay-mode, too"
            )
        return self
