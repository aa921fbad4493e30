"""What BGP has made of a lab: blocks by node, routes in the kernels, sessions as BIRDs see them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from netloom.bgp import status
from netloom.bgp.control import Control
from netloom.dataplane import netns
from netloom.datastore import connect
from netloom.errors import NetloomError
from netloom.lab import birds, processes
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.topology import Node, Router
from netloom.model.addresses import Address, Prefix
from netloom.model.resources import IPBlock
from tests.waiting import eventually

PATIENCE = 60.0
METRIC = 700
"""Of BIRD's routes, where no priority says otherwise."""


def say(lab: Lab, place: str, *command: str) -> str:
    with lab.namespace(place) as namespace, netns.entered(namespace):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{place}: {command}: {done.stderr}"
    return done.stdout


def routes(lab: Lab, place: str, *chosen: str) -> set[str]:
    """Lines of `ip route show` in both families; those that have several next hops are one line.  What differs between versions of
    iproute2 and says nothing is left out.  A link-local next hop is shown by the other address of its interface: a session on a link
    tells both, and BIRD takes the link-local one (RFC 2545), so two peers may tell of one next hop by two addresses."""
    found = set[str]()
    others = link_local(lab)
    for family in ("-4", "-6"):
        text = say(lab, place, "ip", family, "route", "show", *chosen).replace("\n\t", " ")
        text = re.sub(r"(?<=via )fe80::[0-9a-f:]+", lambda match: others.get(match[0], match[0]), text)
        for line in text.splitlines():
            first, *hops = re.sub(r" pref medium| nhid \d+| weight 1", "", line).split(" nexthop ")
            hops = sorted({" ".join(hop.split()) for hop in hops})
            prefix, _, rest = first.partition(" ")
            words = [prefix, *hops, rest] if len(hops) == 1 else [first, *(f"nexthop {hop}" for hop in hops)]
            found.add(" ".join(" ".join(words).split()))
    return found


def link_local(lab: Lab) -> dict[str, str]:
    """Link-local address → the other one of that interface.  They follow from MACs, and those from names: they stay."""
    if lab.name not in _known:
        _known[lab.name] = {
            local: other
            for part in (*lab.topology.routers, *lab.topology.nodes)
            for local, other in _pairs(json.loads(say(lab, part.name, "ip", "-6", "-j", "address")))
        }
    return _known[lab.name]


_known: dict[str, dict[str, str]] = {}


def _pairs(links: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:  # Any: JSON of iproute2
    for link in links:
        scopes = {address["scope"]: address["local"] for address in link["addr_info"]}
        if scopes.keys() == {"link", "global"}:
            yield scopes["link"], scopes["global"]


def prefixes(lab: Lab, place: str, *words: str) -> set[str]:
    return {line.split()[0] for line in routes(lab, place, *words)}


def blocks(lab: Lab) -> Mapping[str, list[Prefix]]:
    """Whose each block is."""
    datastore = connect(datastore_of(lab.name))
    try:
        found: dict[str, list[Prefix]] = {node.name: [] for node in lab.topology.nodes}
        for stored in datastore.list("IPBlock").items:
            if isinstance(block := stored.resource, IPBlock):
                for claim in block.spec.claims:
                    found[claim.node].append(claim.cidr)
        return found
    finally:
        datastore.close()


@dataclass(frozen=True)
class Hop:
    """The shape of a route to a node's blocks: `via` by family, `device`."""

    via: Mapping[int, Address]
    device: str

    def route(self, block: Prefix, metric: int = METRIC) -> str:
        return f"{block} via {self.via[block.version]} dev {self.device} proto bird metric {metric}"


def to_node(lab: Lab, node: Node, device: str = "eth0", switch: str = "") -> Hop:
    return Hop({a.version: a.ip for a in lab.topology.node_addresses(node, switch)}, device)


def to_router(lab: Lab, router: Router, switch: str, device: str = "eth0") -> Hop:
    return Hop({a.version: a.ip for a in lab.topology.router_addresses(router, switch)}, device)


def shown(shape: Hop, found: list[Prefix]) -> Iterator[str]:
    return (shape.route(block) for block in found)


def peers(lab: Lab, place: str) -> dict[str, status.Peer]:
    """Empty as long as there is no BIRD."""
    [socket] = [bird.socket for bird in birds.of(lab.topology) if bird.place == place]
    try:
        return status.peers(Control(socket).ask("show protocols all"))
    except NetloomError:
        return {}


def established(lab: Lab, place: str) -> set[str]:
    return {name for name, peer in peers(lab, place).items() if peer.established}


def bird_of(lab: Lab, place: str) -> int:
    """The process's ID; 0 while there is none."""
    with processes.found(lab.name, "bird", place) as running:
        return running[0].pid if running else 0


def restart_bird(lab: Lab, place: str) -> None:
    """Killed without a word; returns when there is another one."""
    before = bird_of(lab, place)
    lab.kill_bird(place)
    eventually(lambda: bird_of(lab, place) not in (0, before))


def bfd(lab: Lab, place: str) -> dict[str, str]:
    """States of its BFD sessions by the peers' addresses."""
    [socket] = [bird.socket for bird in birds.of(lab.topology) if bird.place == place]
    try:
        return {peer: state.lower() for peer, state in status.bfd(Control(socket).ask("show bfd sessions")).items()}
    except NetloomError:  # nobody there, or nobody who needs it
        return {}


def bfd_is_up(lab: Lab, place: str) -> bool:
    """With every peer."""
    return set(bfd(lab, place).values()) == {"up"}


def wait_for_bfd(lab: Lab, place: str, *peers: Address) -> None:
    """From now on it notices when one of them falls silent.  A BGP session is up first, and alone it waits for minutes."""
    eventually(lambda: all(bfd(lab, place).get(str(peer)) == "up" for peer in peers), PATIENCE)


def wait_for_sessions(lab: Lab) -> None:
    """Every BIRD has all its sessions, and nobody waits any more for what one that has restarted has to tell."""
    for bird in birds.of(lab.topology):

        def complete(place: str = bird.place) -> bool:
            there = peers(lab, place)
            return bool(there) and all(peer.established and not peer.restarting for peer in there.values())

        eventually(complete, PATIENCE)


def wait_until_it_speaks(lab: Lab, place: str) -> None:
    """A BIRD that has just started says nothing of routes before all its peers have said theirs, or it has waited long enough."""
    [socket] = [bird.socket for bird in birds.of(lab.topology) if bird.place == place]
    eventually(lambda: not any("recovery in progress" in line.text for line in Control(socket).ask("show status")), PATIENCE)


def wait_for_route(lab: Lab, place: str, wanted: str) -> None:
    """This one, and no other to the same prefix; the assertion shows what is there."""

    def found() -> set[str]:
        return {line for line in routes(lab, place) if line.split()[0] == wanted.split(maxsplit=1)[0]}

    try:
        eventually(lambda: found() == {wanted}, PATIENCE)
    except AssertionError:
        assert found() == {wanted}


@contextmanager
def cut(lab: Lab, switch: str, place: str) -> Iterator[None]:
    """The cable between them is pulled at the switch's end, for the time of the block."""
    say(lab, switch, "ip", "link", "set", place, "down")
    try:
        yield
    finally:
        say(lab, switch, "ip", "link", "set", place, "up")
