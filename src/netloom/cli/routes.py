"""netloom get routes: what this node routes by.  The agent says whose each of its routes is and why it is so; with -o wide the kernel's
own table stands beside that: everybody's routes, and what differs.

    FOR         pod, node, blackhole: ours;  bird;  foreign: OWNER is then who put it there
    WHY         why it leads there by that tunnel, or by none; or what is wrong with it
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from netloom.cli.context import Context, note
from netloom.cli.printing import structured, table
from netloom.errors import NotFound, Unavailable
from netloom.model.addresses import Prefix, contains
from netloom.model.resources import API_VERSION

if TYPE_CHECKING:
    from netloom.agent.state import KernelRoute, PoolState, RouteState

_COLUMNS = ("DESTINATION", "VIA", "DEVICE", "METRIC", "FOR", "OWNER")
_WIDE = (*_COLUMNS, "POOL", "ENCAPSULATION", "PROTOCOL", "WHY")
_OURS, _KERNEL, _BIRD = 79, 2, 12
_PROTOCOLS = {  # linux/rtnetlink.h and iproute2's rt_protos
    1: "redirect",
    _KERNEL: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    _BIRD: "bird",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    _OURS: "netloom",
    186: "bgp",
    188: "ospf",
}
_ABSENT = "the kernel does not hold it"
_LEFT = "it has our mark, and the agent does not want it"


def show(context: Context, names: tuple[str, ...], output: str) -> None:
    """`names`: addresses, prefixes, nodes or NAMESPACE/POD."""
    import msgspec

    state = context.agent_state()
    ours = state.routes
    chosen = [route for route in ours if not names or any(_leads(route.destination, route.owner, name) for name in names)]
    if output in ("json", "yaml"):
        items = msgspec.to_builtins(chosen, enc_hook=str)
        click.echo(structured({"apiVersion": API_VERSION, "kind": "RouteList", "items": items}, output))
    elif output == "name":
        click.echo("\n".join(f"route/{route.destination}" for route in chosen))
    elif output == "wide":
        rows = [
            row
            for row in wide(ours, _of_kernel(context), state.pools)
            if not names or any(_leads(row[0], row[5], n) for n in names)
        ]
        if rows:
            click.echo(table(_WIDE, rows))
        if rows or not names:
            return
    elif chosen:
        click.echo(table(_COLUMNS, [(r.destination, r.via, r.device, r.metric, r.kind, r.owner) for r in chosen]))
    if not chosen and names:
        raise NotFound(f"no route of ours leads to {', '.join(names)}", hint="see them all: netloom get routes")


Row = tuple[Prefix, object, str, int, str, str, str, str, str, str]


def wide(ours: Sequence[RouteState], kernel: Iterable[KernelRoute] | None, pools: Sequence[PoolState] = ()) -> Iterator[Row]:
    """All routes, ours first.  `kernel` None: its table is not known."""
    held = None if kernel is None else {(r.destination, r.metric, r.protocol == _OURS): r for r in kernel}
    for route in ours:
        why = route.why
        if held is not None and held.pop((route.destination, route.metric, True), None) is None:
            why = _ABSENT
        start = route.destination, route.via, route.device, route.metric, route.kind.value, route.owner
        yield *start, route.pool, route.encapsulation, _protocol(route.protocol or _OURS), why
    for other in sorted((held or {}).values(), key=lambda r: (r.destination.version, r.destination, r.metric)):
        kind = "bird" if other.protocol == _BIRD else "foreign"
        owner, why, pool, encapsulation = _protocol(other.protocol), "", "", ""
        if other.protocol == _OURS:
            why = _LEFT
        elif other.protocol == _KERNEL:
            why = f"by an address of {other.device}"
        elif other.protocol == _BIRD:
            pool, encapsulation, why = _of_bird(other, pools)
        yield other.destination, other.via, other.device, other.metric, kind, owner, pool, encapsulation, owner, why


def _of_bird(route: KernelRoute, pools: Iterable[PoolState]) -> tuple[str, str, str]:
    """Pool, encapsulation, and why it leads there."""
    pool = next((pool for pool in pools if contains(pool.cidr, route.destination)), None)
    if pool is None:
        return "", "", "by BGP"
    if pool.encapsulation == "None":
        return pool.name, "None", "by BGP: packets cross as they are"
    if pool.encapsulation.endswith("CrossSubnet"):
        return pool.name, "None", f"by BGP, to a neighbour: {pool.encapsulation} tunnels only what crosses a router"
    return pool.name, "None", f"by BGP, until this node is ready for {pool.encapsulation}"


def _of_kernel(context: Context) -> tuple[KernelRoute, ...] | None:
    from netloom.cli.agent_socket import routes

    try:
        return routes(context.settings.api_socket).routes
    except Unavailable as e:
        note(f"the kernel's own table is not shown: {e}")
        return None


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))


def _leads(destination: Prefix, owner: str, name: str) -> bool:
    try:
        wanted = ipaddress.ip_network(name)
    except ValueError:
        return owner == name
    return contains(destination, wanted)
