"""The configuration: read once, checked, frozen, passed in. Nothing here reads the environment."""

from bethrou.config.fields import LogFormat, LogLevel, MemberPolicy, StickyBy, Strategy
from bethrou.config.load import client_config, load_client_config, load_node_config, node_config
from bethrou.config.models import (
    ClientConfig,
    DiscoveryConfig,
    ExitEntry,
    LogConfig,
    NodeConfig,
    RoutingConfig,
    ServerConfig,
)
from bethrou.config.rules import Action, RoutingRule, Use
from bethrou.config.values import (
    AddressRule,
    DnsServer,
    HostPort,
    ResolverChoice,
    parse_address_rule,
    parse_listen,
)

__all__ = [
    "Action",
    "AddressRule",
    "ClientConfig",
    "DiscoveryConfig",
    "DnsServer",
    "ExitEntry",
    "HostPort",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "MemberPolicy",
    "NodeConfig",
    "ResolverChoice",
    "RoutingConfig",
    "RoutingRule",
    "ServerConfig",
    "StickyBy",
    "Strategy",
    "Use",
    "client_config",
    "load_client_config",
    "load_node_config",
    "node_config",
    "parse_address_rule",
    "parse_listen",
]
