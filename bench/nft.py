"""nftables: what a pod and a whole node cost, against the `nft` program in the same run.

    python bench/nft.py [PODS] [ROUNDS]

Runs in a network namespace of its own.  Each figure is a median of rounds in a row: caches are as warm as an
agent's own loop keeps them, and as cold as a new process finds them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from netloom.dataplane import conntrack, netns
from netloom.dataplane.foreign import ForeignFirewalls
from netloom.dataplane.nft import Nft, ruleset
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Outer, Source

POOLS = frozenset(map(ipaddress.ip_network, ("10.244.0.0/16", "fd00:10:244::/56")))
VXLAN = frozenset({Outer(socket.IPPROTO_UDP, 4789)})


def pod(number: int) -> tuple[Source, ...]:
    """Of both families."""
    mac = Mac(f"0a:58:0a:f4:{number >> 8:02x}:{number & 255:02x}")
    addresses = (ipaddress.ip_address("10.244.0.0") + number, ipaddress.ip_address("fd00:10:244::") + number)
    return tuple(Source(f"loom{number:011x}", mac, address) for address in addresses)


def node(pods: int, nodes: int = 50) -> Filter:
    sources = frozenset(source for number in range(1, pods + 1) for source in pod(number))
    vteps = frozenset(ipaddress.ip_address("192.0.2.0") + number for number in range(nodes))
    return Filter(sources=sources, pools=POOLS, masquerade=POOLS, vteps=vteps, outers=VXLAN, carried=frozenset({4789}))


def nft(*arguments: str, text: str | None = None) -> str:
    return subprocess.run(["nft", *arguments], input=text, capture_output=True, text=True, check=True).stdout


def microseconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1e6


def compare(what: str, rounds: int, ours: Callable[[], object], theirs: Callable[[], object] | None = None) -> None:
    own = statistics.median(microseconds(ours) for _ in range(rounds))
    line = f"{what:<48}{own:>10.1f} µs"
    if theirs:
        other = statistics.median(microseconds(theirs) for _ in range(rounds))
        line += f"{other:>12.1f} µs  × {other / own:.0f}"
    print(line)


def main(pods: int = 250, rounds: int = 31) -> None:
    driver, want = Nft(), node(pods)
    driver.reconcile(want)
    listing = "flush ruleset\n" + nft("list", "ruleset")
    new = pod(pods + 1)
    elements = [f"{source.interface} . {source.mac} . {source.address}" for source in new]
    sets = {"inet": (4, 6), "bridge": (4, 6)}
    commands = "".join(
        f"{{verb}} element {family} netloom sources{version} {{{{ {elements[version == 6]} }}}}\n"
        for family, versions in sets.items()
        for version in versions
    )
    print(f"{'':<48}{'netloom':>13}{'nft':>15}")
    compare("a pod of two families admitted and expelled", rounds, lambda: _turn(driver, new), lambda: _turn_by_nft(commands))
    compare("a pod of one family admitted and expelled", rounds, lambda: _turn(driver, new[:1]))
    kernel = Nfnetlink()
    whole = f"the whole ruleset of {pods} pods"
    compare(whole, rounds, lambda: kernel.transact(ruleset.build(want)), lambda: nft("-f", "-", text=listing))
    driver.reconcile(want)
    compare(
        f"a pass over {pods} pods that finds nothing", rounds, lambda: driver.reconcile(want), lambda: nft("list", "ruleset")
    )
    large = node(pods, nodes=5000)
    driver.reconcile(large)
    compare("the same with 5000 nodes", rounds, lambda: driver.reconcile(large), lambda: nft("list", "ruleset"))
    firewalls = ForeignFirewalls()
    compare("no other firewall here", rounds, lambda: firewalls.reconcile(want))
    nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    firewalls.reconcile(want)
    compare("a passage through iptables stands", rounds, lambda: firewalls.reconcile(want))
    compare("no connection to forget", rounds, lambda: conntrack.flush([new[0].address]))


def _turn(driver: Nft, sources: tuple[Source, ...]) -> None:
    driver.admit(sources)
    driver.expel(sources)


def _turn_by_nft(commands: str) -> None:
    nft("-f", "-", text=commands.format(verb="add"))
    nft("-f", "-", text=commands.format(verb="delete"))


if __name__ == "__main__":
    space = netns.create()
    with netns.entered(space):
        main(*map(int, sys.argv[1:]))
    os.close(space)
