"""What happens to a cluster of etcd members, every second or two: they are killed, stopped, cut off from one another, one way or
both ways, or from those who ask; and all the while compacted and defragmented.

    with members(3) as cluster, troubled(cluster, seed=1) as trouble:
        ...                                    inside `cluster.clients` (a namespace) the members are at cluster.etcd.urls
    trouble.happened                           how often what

Each member has a namespace of its own, and cables lead to one bridge; a cut is a rule of nftables that drops, at the member itself.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device, new_veth, put_address, set_link
from netloom.model.addresses import Mac
from tests.etcd import Etcd, Place, etcd
from tests.kernel.iproute import run

NETWORK = ipaddress.IPv4Network("10.99.0.0/24")
_LOOPBACK = 1


@dataclass(frozen=True, slots=True)
class Cluster:
    etcd: Etcd
    places: Sequence[Place]
    clients: int
    """A namespace, by descriptor."""


@contextmanager
def members(size: int) -> Iterator[Cluster]:
    with ExitStack() as stack:
        switch, *ends = [netns.create() for _ in range(size + 2)]
        for one in (switch, *ends):
            stack.callback(os.close, one)
        with netns.entered(switch):
            run("ip link add bridge0 type bridge")
            run("ip link set bridge0 up")
        for number, end in enumerate(ends):
            _join(switch, end, number)
        places = [Place(end, str(NETWORK[number + 1])) for number, end in enumerate(ends[:-1])]
        running = stack.enter_context(etcd(places=places, options=["--auto-compaction-retention=0"]))
        running.namespace = ends[-1]
        yield Cluster(running, places, ends[-1])


def _join(switch: int, end: int, number: int) -> None:
    with Netlink(switch) as kernel:
        macs = Mac(f"02:00:00:00:01:{number:02x}"), Mac(f"02:00:00:00:02:{number:02x}")
        kernel.transact(new_veth(f"port{number}", "eth0", end, mac=macs[0], peer_mac=macs[1], mtu=1500))
    with netns.entered(switch):
        run(f"ip link set port{number} master bridge0")
        run(f"ip link set port{number} up")
    with Netlink(end) as kernel:
        uplink = device(kernel, "eth0")
        assert uplink is not None
        address = ipaddress.ip_interface(f"{NETWORK[number + 1]}/{NETWORK.prefixlen}")
        kernel.transact(set_link(_LOOPBACK, up=True), set_link(uplink.index, up=True), put_address(uplink.index, address))


Fault = Callable[[], Callable[[], None]]
"""Does something, and gives what undoes it."""


@dataclass(slots=True)
class Trouble:
    """`seconds`: how long a fault lasts, shortest and longest."""

    cluster: Cluster
    chance: random.Random
    seconds: tuple[float, float]
    happened: Counter[str] = field(default_factory=Counter)
    _end: threading.Event = field(default_factory=threading.Event)

    def reign(self) -> None:
        """One fault after the other until `end`; then all is well."""
        faults: dict[str, Fault] = {
            "killed": self._kill,
            "killed at once": lambda: self._kill(2),
            "stopped": self._stop,
            "two stopped": lambda: self._stop(2),
            "deaf": lambda: self._cut(hears=False),
            "dumb": lambda: self._cut(speaks=False),
            "cut off": lambda: self._cut(hears=False, speaks=False),
            "cut off from clients, too": lambda: self._cut(hears=False, speaks=False, clients=True),
        }
        names: list[str] = []
        while not self._end.is_set():
            names = names or self.chance.sample(sorted(faults), len(faults))
            name = names.pop()
            undo = faults[name]()
            self.happened[name] += 1
            self._end.wait(self.chance.uniform(*self.seconds))
            undo()
            self._end.wait(self.chance.uniform(0.2, self.seconds[0]))

    def housekeep(self) -> None:
        """Compacts up to now, and defragments, once a second; where the members are not able to, the next time."""
        while not self._end.wait(1.0):
            try:
                answer = json.loads(self.cluster.etcd.ctl("get", "no-such-key", "--write-out=json"))
                self.cluster.etcd.ctl("compact", str(answer["header"]["revision"]))
                self.happened["compacted"] += 1
                self.cluster.etcd.ctl("defrag")
                self.happened["defragmented"] += 1
            except AssertionError:  # etcdctl says no
                self.happened["not compacted or defragmented"] += 1

    def end(self) -> None:
        self._end.set()

    def _some(self, count: int = 1) -> list[int]:
        return self.chance.sample(range(len(self.cluster.places)), count)

    def _kill(self, count: int = 1) -> Callable[[], None]:
        chosen = [self.cluster.etcd.member(number) for number in self._some(count)]
        for member in chosen:
            member.kill()

        def undo() -> None:
            for member in chosen:
                member.begin()

        return undo

    def _stop(self, count: int = 1) -> Callable[[], None]:
        chosen = [self.cluster.etcd.member(number) for number in self._some(count)]
        for member in chosen:
            member.send(signal.SIGSTOP)

        def undo() -> None:
            for member in chosen:
                member.send(signal.SIGCONT)

        return undo

    def _cut(self, *, hears: bool = True, speaks: bool = True, clients: bool = False) -> Callable[[], None]:
        """One member, from the others."""
        [number] = self._some()
        own = self.cluster.places[number]
        others = [place.address for place in self.cluster.places if place is not own]
        if clients:
            others.append(str(NETWORK[len(self.cluster.places) + 1]))
        chains = ""
        if not hears:
            chains += f"chain i {{ type filter hook input priority 0; ip saddr {{ {', '.join(others)} }} drop; }}; "
        if not speaks:
            chains += f"chain o {{ type filter hook output priority 0; ip daddr {{ {', '.join(others)} }} drop; }}; "
        with netns.entered(own.namespace):
            run("nft", f"table ip trouble {{ {chains} }}")

        def undo() -> None:
            with netns.entered(own.namespace):
                run("nft delete table ip trouble")

        return undo


@contextmanager
def troubled(cluster: Cluster, seed: int, seconds: tuple[float, float]) -> Iterator[Trouble]:
    """Until the block ends, or `Trouble.end`."""
    trouble = Trouble(cluster, random.Random(seed), seconds)
    threads = [threading.Thread(target=work, daemon=True) for work in (trouble.reign, trouble.housekeep)]
    for thread in threads:
        thread.start()
    try:
        yield trouble
    finally:
        trouble.end()
        for thread in threads:
            thread.join(120)
