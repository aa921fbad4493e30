"""Operations on this kernel, with what they wait for in the test's hand: blocks to be claimed, conntrack to be flushed."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netloom.cni.collecting import Collector
from netloom.cni.messages import Add, Collect
from netloom.cni.operations import Kernel, Operations
from netloom.cni.removing import LinkRemover
from netloom.cni.results import Dns
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device
from netloom.dataplane.nft import Nft
from netloom.dataplane.sandboxes import Sandboxes
from netloom.errors import CniError, DataplaneError
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.journal import Journal
from netloom.ipam.networks import Declared
from netloom.model.addresses import Address, Interface, Mac
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State, Wiring
from netloom.model.desired import Filter, Published, Source
from tests.agent_process import guards

BRIDGE = "blue.br0"
EVERYTHING = Collect("1.1.0", "net", frozenset())


class Rules(Nft):
    """`fault`: raised instead of admitting.  `stuck`: an interface that cannot be expelled now."""

    fault: Exception | None = None
    stuck = ""

    def admit(self, sources: Collection[Source], bridges: Collection[str] = (), published: Collection[Published] = ()) -> None:
        if self.fault:
            raise self.fault
        super().admit(sources, bridges, published)

    def expel(self, sources: Collection[Source]) -> None:
        if any(source.interface == self.stuck for source in sources):
            raise DataplaneError("nft", "set", "busy")
        super().expel(sources)


class Node:
    """`has_block`: until it is set, an ADD waits for one.  `may_flush`: until it is set, addresses are not free."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal.rebuild(str(folder / "journal"), "boot", NetnsId(1, 1))
        self.netlink, self.rules = Netlink(), Rules()
        self.rules.reconcile(Filter())
        self.has_block, self.may_flush = asyncio.Event(), threading.Event()
        self.has_block.set()
        self.may_flush.set()
        self.remover = LinkRemover(Netlink, threads=2)
        self.flushed: list[Collection[Address]] = []
        self.netns = netns.own()
        kernel = Kernel(self.netns, self.netlink, self.rules, self.remover, self.flush, lambda ports: None)
        self.look: Callable[[], Sandboxes] = Sandboxes
        self.operations = Operations(self.journal, self, kernel, lambda: self.look(), lambda: None)
        self.collector = Collector(self.operations, self.journal, self.netlink, lambda: self.look())
        self._numbers = iter(range(2, 60))

    def flush(self, addresses: Collection[Address]) -> None:
        self.flushed.append(addresses)
        self.may_flush.wait(60)

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        if not self.has_block.is_set():
            return NeedBlock(())
        length = 26 if request.wiring is Wiring.BRIDGE else 32
        return (ipaddress.ip_interface(f"10.1.0.{next(self._numbers)}/{length}"),)

    async def claim(self, need: NeedBlock) -> None:
        await self.has_block.wait()

    def mtu(self, addresses: Iterable[Interface]) -> int:
        return 1450

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[None, ...]:
        return tuple(None for _ in addresses)

    async def declare(self, network: Declared, place: Callable[[], None]) -> None:
        place()

    async def add(self, container: str, sandbox: int, *, mac: str | None = None, bridge: str = "") -> Attachment:
        request = Add(
            version="1.1.0",
            key=key(container),
            sandbox="/netns",
            netns=netns.identify(sandbox),
            wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED,
            bridge=bridge,
            mtu=0,
            pools={},
            addresses=(),
            mac=Mac(mac) if mac else None,
            namespace="default",
            pod=container,
            uid="",
            labels={},
            dns=Dns(),
            previous=None,
        )
        return await self.operations.add(request, sandbox, lambda: False)

    async def until_free(self) -> None:
        while self.journal.attachments:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        self.remover.stop()
        self.rules.close()
        self.netlink.close()
        self.journal.close()


def key(container: str) -> AttachmentKey:
    return AttachmentKey("net", container, "eth0")


@pytest.fixture
def folder(node: int, tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def pods() -> Iterator[list[int]]:
    made = [netns.create() for _ in range(3)]
    yield made
    for fd in made:
        os.close(fd)


@pytest.fixture
def mortals() -> Iterator[list[int]]:
    """Pods that are to be found dead when they were closed."""
    lower = guards()
    made = [netns.create() for _ in range(3)]
    for fd in lower:
        os.close(fd)
    yield made
    for fd in made:
        os.close(fd)


def play(folder: Path, story: Callable[[Node], Awaitable[None]]) -> None:
    async def whole() -> None:
        node = Node(folder)
        try:
            await asyncio.wait_for(story(node), 60)
        finally:
            node.close()

    asyncio.run(whole())


async def begun(work: Coroutine[Any, Any, Attachment]) -> asyncio.Task[Attachment]:
    """It has come to where it waits."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0.05)
    return task


async def refused(work: Awaitable[object]) -> CniError:
    with pytest.raises(CniError) as error:
        await work
    return error.value


def test_a_del_ends_an_add_that_waits_for_a_block(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        node.has_block.clear()
        adding = await begun(node.add("c", pods[0]))
        await node.operations.delete(key("c"))
        assert (await refused(adding)).code == 11
        assert not node.journal.attachments
        node.has_block.set()
        assert (await node.add("c", pods[0])).key == key("c")

    play(folder, story)


def test_a_del_ends_an_add_that_waits_for_the_end_of_an_earlier_life(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        await node.add("c", pods[0])
        node.may_flush.clear()
        await node.operations.delete(key("c"))
        adding = await begun(node.add("c", pods[1]))
        await node.operations.delete(key("c"))
        node.may_flush.set()
        assert (await refused(adding)).code == 11
        await node.until_free()

    play(folder, story)


def test_dels_at_once_end_one_life_and_not_the_next(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        latest = await node.add("c", pods[0])
        for _ in range(5):
            dels = [asyncio.create_task(node.operations.delete(key("c"))) for _ in range(3)]
            collecting = asyncio.create_task(node.collector.collect(EVERYTHING))
            await dels[0]
            before, latest = latest, await node.add("c", pods[0])
            await asyncio.gather(*dels, collecting)
            await asyncio.sleep(0.05)
            present = node.journal.get(key("c"))
            assert present and present.state is State.READY and present.sequence == latest.sequence > before.sequence
            assert device(node.netlink, latest.host_interface)

    play(folder, story)


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), DataplaneError("nft", "set", "busy"), OSError(24, "too many")])
def test_whatever_goes_wrong_in_an_add_nothing_of_it_stays(folder: Path, pods: list[int], fault: Exception) -> None:
    async def story(node: Node) -> None:
        node.rules.fault = fault
        with pytest.raises((CniError, RuntimeError)) as error:
            await node.add("c", pods[0])
        if isinstance(fault, DataplaneError):
            assert isinstance(error.value, CniError) and error.value.code == 11  # a pass mends rules
        await node.until_free()
        node.rules.fault = None
        await node.add("c", pods[0])

    play(folder, story)


def test_one_that_cannot_be_removed_does_not_hold_up_the_collection_of_others(folder: Path, mortals: list[int]) -> None:
    async def story(node: Node) -> None:
        made = [await node.add(f"c{number}", sandbox) for number, sandbox in enumerate(mortals)]
        while mortals:
            os.close(mortals.pop())
        while any(device(node.netlink, attachment.host_interface) for attachment in made):
            await asyncio.sleep(0.01)
        node.rules.stuck = made[0].host_interface
        assert "c0 cannot be removed yet" in str(await refused(node.collector.collect(EVERYTHING)))
        while len(node.journal.attachments) > 1:
            await asyncio.sleep(0.01)
        node.rules.stuck = ""
        await node.collector.bury(())
        await node.until_free()

    play(folder, story)


def test_the_last_pod_of_a_block_takes_its_gateway_from_a_bridge_with_a_name_of_the_users(
    folder: Path, pods: list[int]
) -> None:
    """Else its route would stand there still when the block is another node's."""

    def shown(what: str) -> str:
        return subprocess.run(["ip", what, "show", "dev", BRIDGE], capture_output=True, text=True, check=True).stdout

    async def story(node: Node) -> None:
        one, two = await node.add("a", pods[0], bridge=BRIDGE), await node.add("b", pods[1], bridge=BRIDGE)
        subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", BRIDGE], check=True)
        await node.operations.delete(one.key)
        assert "10.1.0.1/26" in shown("address")
        assert str(one.addresses[0].ip) not in shown("neigh") and str(two.addresses[0].ip) in shown("neigh")
        await node.operations.delete(two.key)
        assert "10.1.0" not in shown("address") + shown("route") + shown("neigh")
        assert "192.0.2.1/24" in shown("address")

    play(folder, story)


@pytest.mark.parametrize("mac", ["0a:58:0a:01:00:03", "0e:58:0a:01:00:03"])
def test_on_a_bridge_nobody_takes_the_mac_that_another_pod_will_have(folder: Path, pods: list[int], mac: str) -> None:
    async def story(node: Node) -> None:
        assert (await refused(node.add("a", pods[0], bridge=BRIDGE, mac=mac))).code == 7
        assert (await node.add("b", pods[0], mac=mac)).mac == mac  # routed: nobody shares its link

    play(folder, story)


def test_on_a_bridge_no_two_pods_have_one_mac(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        await node.add("a", pods[0], bridge=BRIDGE, mac="02:00:00:00:00:07")
        error = await refused(node.add("b", pods[1], bridge=BRIDGE, mac="02:00:00:00:00:07"))
        assert "in use by default/a" in str(error)
        await node.add("c", pods[1], bridge="red.br0", mac="02:00:00:00:00:07")

    play(folder, story)


def test_those_that_leave_while_conntrack_is_read_are_flushed_together(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        for number, sandbox in enumerate(pods):
            await node.add(f"c{number}", sandbox)
        node.may_flush.clear()
        await asyncio.gather(*(node.operations.delete(key(f"c{number}")) for number in range(3)))
        await asyncio.sleep(0.02)
        assert len(node.journal.attachments) == 3
        node.may_flush.set()
        await node.until_free()
        assert [len(addresses) for addresses in node.flushed] in ([1, 2], [2, 1], [3])

    play(folder, story)


async def reborn(node: Node, pods: list[int]) -> str:
    """A sandbox that has died, and whose namespace's number the last of `pods` has by now.  The kernel frees it a moment after the
    link, and takes the lowest that is free, so it comes soon, unless somebody else on this machine was quicker."""
    for attempt in range(30):
        name, number = f"old-{attempt}", netns.identify(pods[0])
        link = (await node.add(name, pods[0])).host_interface
        os.close(pods.pop(0))
        while device(node.netlink, link):
            await asyncio.sleep(0.01)
        for _ in range(60):
            await asyncio.sleep(0.01)
            pods.append(netns.create())
            if netns.identify(pods[-1]) == number:
                return name
    raise AssertionError("no number came back: others on this machine take them as they become free")


def test_a_sandbox_whose_number_another_one_has_by_now_is_dead(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        old = await reborn(node, pods)
        with netns.entered(pods[-1]):
            process = subprocess.Popen(["sleep", "60"])
        try:
            await node.collector.collect(EVERYTHING)
            assert node.journal.get(key(old)), "somebody is in a namespace of that number"
            await node.add("new", pods[-1])
            await node.collector.collect(EVERYTHING)
            while len(node.journal.attachments) > 1:
                await asyncio.sleep(0.01)
            assert node.journal.get(key("new"))
        finally:
            process.kill()
            process.wait()

    play(folder, story)


class Blind(Sandboxes):
    """Something holds every sandbox, and lets nobody in."""

    def alive(self, netns: NetnsId) -> bool:
        return True

    def open(self, netns: NetnsId) -> int | None:
        return None


def test_what_cannot_be_found_out_keeps_an_address_in_use(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        one = await node.add("c", pods[0])
        subprocess.run(["ip", "link", "delete", one.host_interface], check=True)
        node.look = Blind
        assert "its addresses stay in use" in (await refused(node.operations.delete(one.key))).details
        assert "its addresses stay in use" in (await refused(node.collector.bury(()))).details
        present = node.journal.get(one.key)
        assert present and present.state is State.LEAVING
        node.look = Sandboxes
        await node.collector.bury(())
        await node.until_free()

    play(folder, story)


def test_a_pod_whose_link_was_renamed_is_not_dead_though_nobody_can_be_seen_in_its_sandbox(
    folder: Path, pods: list[int]
) -> None:
    async def story(node: Node) -> None:
        one = await node.add("c", pods[0])
        subprocess.run(["ip", "link", "set", one.host_interface, "down"], check=True)
        subprocess.run(["ip", "link", "set", one.host_interface, "name", "foo0"], check=True)
        await node.collector.collect(EVERYTHING)
        await node.collector.bury((one.host_interface,))
        assert node.journal.get(one.key) == msgspec.structs.replace(one, state=State.READY)
        await node.operations.delete(one.key)
        await node.until_free()
        assert device(node.netlink, "foo0") is None

    play(folder, story)


def test_a_second_del_does_not_look_for_what_is_known_to_be_gone(folder: Path, pods: list[int]) -> None:
    async def story(node: Node) -> None:
        one = await node.add("c", pods[0])
        node.may_flush.clear()
        node.look = Blind
        await node.operations.delete(one.key)
        await node.operations.delete(one.key)
        node.may_flush.set()
        await node.until_free()

    play(folder, story)
