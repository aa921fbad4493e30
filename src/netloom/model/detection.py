"""Detection: how a person says which of a machine's addresses the other nodes should use.  Calico's words, and Flannel's.

default                       an interface of a default route, unless the other nodes are on the link of another
first-found                   the first interface that is not another program's bridge or tunnel
interface=eth.*,bond0         the first interface with such a name; each is a regular expression for the whole name
skip-interface=docker.*       as first-found, but none of these
cidr=10.0.0.0/8,fd00::/8      the first address that lies in one of these
can-reach=203.0.113.7         the address that packets to this one leave with
iface=eth1, iface=10.0.0.5    Flannel's --iface: by name or by address
iface-regex=eth.*|10\\.0\\..*    Flannel's --iface-regex: by address, else by name
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass

from netloom.model.addresses import Address, Prefix, parse_address


class Rule(enum.Enum):
    DEFAULT = "default"
    FIRST_FOUND = "first-found"
    INTERFACE = "interface"
    SKIP_INTERFACE = "skip-interface"
    CIDR = "cidr"
    CAN_REACH = "can-reach"
    IFACE = "iface"
    IFACE_REGEX = "iface-regex"


@dataclass(frozen=True, slots=True)
class Detection:
    """`text`: as it was written.  Of the rest, what the rule needs."""

    text: str
    rule: Rule
    patterns: tuple[re.Pattern[str], ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    destination: Address | None = None


DEFAULT = Detection("", Rule.DEFAULT)
_ALONE = (Rule.DEFAULT, Rule.FIRST_FOUND)


def parse_detection(text: str) -> Detection:
    """Raises ValueError that says what would do."""
    if not text:
        return DEFAULT
    name, equals, value = text.partition("=")
    if name == "kubernetes-internal-ip":
        raise ValueError("kubernetes-internal-ip needs the Kubernetes API; say cidr= or interface= instead")
    try:
        rule = Rule(name)
    except ValueError as e:
        raise ValueError(f"{text!r} is none of {', '.join(rule.value for rule in Rule)}") from e
    if bool(value) == (rule in _ALONE) or (equals and rule in _ALONE):
        raise ValueError(f"{rule.value} stands alone" if rule in _ALONE else f"{rule.value} wants a value: {rule.value}=…")
    match rule:
        case Rule.INTERFACE | Rule.SKIP_INTERFACE:
            return Detection(text, rule, patterns=tuple(_pattern(part) for part in value.split(",")))
        case Rule.IFACE_REGEX:
            return Detection(text, rule, patterns=(_pattern(value),))
        case Rule.IFACE:
            return _iface(text, value)
        case Rule.CIDR:
            return Detection(text, rule, prefixes=tuple(ipaddress.ip_network(part, strict=False) for part in value.split(",")))
        case Rule.CAN_REACH:
            return Detection(text, rule, destination=_destination(value))
    return Detection(text, rule)


def _iface(text: str, value: str) -> Detection:
    try:
        address = parse_address(value)
    except ValueError:
        return Detection(text, Rule.IFACE, patterns=(re.compile(re.escape(value)),))
    return Detection(text, Rule.IFACE, prefixes=(ipaddress.ip_network(address),))


def _destination(value: str) -> Address:
    try:
        return parse_address(value)
    except ValueError as e:
        raise ValueError(f"can-reach takes an address, not {value!r}: a node has to start without name servers") from e


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as e:
        raise ValueError(f"{text!r} is no regular expression: {e}") from e
