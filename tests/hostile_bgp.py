"""BgpConfigs in which some value is hostile: text where a number has to be, text that would end a string, a comment or a block, values
of types that only look right.  From a seed, so that what fails fails again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

from netloom.model.routing import BgpConfig, Change, Community, FilterRule, Match, RouteFilter, Secret
from tests.bgp_configs import FABRIC, PASSWORD

PARTS = (
    *(
        "\n",
        '"',
        "}",
        "{",
        ";",
        "#",
        "/*",
        "*/",
        "'",
        "\\",
        "\r",
        "\t",
        "\x00",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "é",
        "\ud800",
        "%s",
        "$(id)",
    ),
    *(
        'include "/etc/passwd";',
        "protocol kernel x { }",
        "};",
        "accept;",
        "reject;",
        "*",
        "+",
        "10.0.0.0/8",
        "fe80::1%lo",
        "0",
        "-1",
    ),
    *(
        "router id 6.6.6.6;",
        "} filter x { accept; }",
        '\ninclude "/etc/shadow";\n',
        "password",
        "on",
        "off",
        "as",
        "x" * 300,
        " ",
    ),
)


class LikeNumber(int):
    def __str__(self) -> str:
        return '1; include "/etc/passwd"; #'

    def __format__(self, spec: str) -> str:
        return str(self)


class LikePrefix(IPv4Network):
    def __str__(self) -> str:
        return "10.0.0.0/8 }"


class LikeAddress(IPv4Address):
    def __str__(self) -> str:
        return "10.0.0.1; }"


@dataclass(frozen=True)
class Hostile:
    config: BgpConfig
    secrets: Mapping[Secret, str]
    field: str


def small() -> BgpConfig:
    """A config with every kind of value, and few of each."""
    rule = FilterRule(
        True,
        ip_network("10.0.0.0/8"),
        Match.IN,
        (16, 24),
        interface="eth*",
        external=True,
        communities=(Community((64999, 1)),),
        path=(64999,),
        priority=700,
        changes=(Change(add_community=Community((1, 2, 3))), Change(prepend=(64512,)), Change(priority=600)),
    )
    session = replace(FABRIC.sessions[0], filters=("rack",), via=ip_address("192.0.2.3"))
    filters = {"rack": RouteFilter({4: (rule,)}, {4: (rule,)})}
    return replace(FABRIC, families=(4,), sessions=(session,), filters=filters, draining=True)


def hostile(seed: int, number: int) -> Iterator[Hostile]:
    """One hostile value each."""
    chance, base = random.Random(seed), small()
    paths = [path for path in _paths(base) if path != ("ignored",)]  # text is a sequence of names, too; each of them is tried
    paths.append(("password",))
    for _ in range(number):
        path, value = chance.choice(paths), _value(chance)
        if path == ("password",):
            yield Hostile(base, {PASSWORD: value}, "password")  # type: ignore[dict-item]  # that is the point
        else:
            secrets = {PASSWORD: "harmless"}
            yield Hostile(_with(base, path, value), secrets, ".".join(map(str, path)))


def text(chance: random.Random) -> str:
    return "".join(chance.choice(PARTS) for _ in range(chance.randint(1, 5)))


def _value(chance: random.Random) -> object:
    kind = chance.random()
    if kind < 0.8:
        return text(chance)
    return chance.choice(
        (
            *(LikeNumber(5), LikePrefix("10.0.0.0/30"), LikeAddress("10.0.0.1"), -1, 2**32, 2**70, 1.5),
            *((text(chance),), float("nan")),
        )
    )


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # Any: of each field's own type
    """To everything in the value, values in values included."""
    if is_dataclass(value):
        children = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, Mapping):
        children = list(value.items())
    elif isinstance(value, tuple):
        children = list(enumerate(value))
    else:
        children = []
    for key, child in children:
        yield (*above, key)
        yield from _paths(child, (*above, key))


def _with(value: Any, path: tuple[Any, ...], new: object) -> Any:  # Any: as above
    key, *rest = path
    if is_dataclass(value):
        changed = _with(getattr(value, key), tuple(rest), new) if rest else new
        return replace(value, **{key: changed})
    if isinstance(value, Mapping):
        return {**value, key: _with(value[key], tuple(rest), new) if rest else new}
    items = list(value)
    items[key] = _with(items[key], tuple(rest), new) if rest else new
    return value._make(items) if hasattr(value, "_make") else tuple(items)
