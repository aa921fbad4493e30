"""Operations: ADD, DEL, CHECK and STATUS on this node (GC: collecting).

    ADD   choose addresses ─▶ intend ─▶ wire ─▶ admit its sources ─▶ commit ─▶ answer
    DEL   leave ─▶ expel its sources ─▶ remove the link ─▶ (gone from the kernel: answer) ─▶ flush conntrack ─▶ done

An ADD runs from its intent to its commit without giving up the loop, so nothing comes in between: a pass sees it finished or
not at all.  It waits only before that, for a block to be claimed, and a DEL that comes meanwhile abandons it.  Each step takes
"already so" as done.  The journal is written before the kernel, so a killed agent knows what to look for: `recover` brings
such halves to an end at the next start.

An address is free when its link is gone from this kernel and its conntrack entries are flushed, and not before: until then the
attachment is LEAVING and holds it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from netloom.calc import pod as pod_tables
from netloom.calc.networks import apart
from netloom.calc.ports import localnet, needs_localnet, published
from netloom.calc.rules import sources
from netloom.cni import limiting, second, wiring
from netloom.cni.attaching import attachment_for
from netloom.cni.inspecting import inspect
from netloom.cni.lingering import Sandboxes, renamed, uproot
from netloom.cni.messages import INVALID_CONFIG, Add, Check, Status
from netloom.cni.placing import require_place
from netloom.cni.ports import holder, in_words, rivals, unservable
from netloom.cni.removing import LinkRemover
from netloom.dataplane.netlink import Netlink, NetlinkError, delete_address, delete_neighbour, device
from netloom.dataplane.nft import Nft
from netloom.dataplane.sysctls import write_sysctls
from netloom.errors import CniError, ConfigError, DataplaneError, JournalUnwritable, NetloomError, PoolExhausted, Unavailable
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.journal import Journal, boottime
from netloom.ipam.networks import Declared
from netloom.model.addresses import Address, Interface
from netloom.model.attachments import Attachment, AttachmentKey, State, Wiring, ifb_name
from netloom.model.desired import Published
from netloom.model.resources import IPPool

log = logging.getLogger(__name__)

UNKNOWN_CONTAINER, TRY_AGAIN, UNAVAILABLE = 3, 11, 50
EXISTS, EXHAUSTED, REFUSED, DIFFERS = 100, 101, 102, 103  # our own codes: 100 and above (SPEC 1.1.0, "Error")
_TOGETHER = 0.05  # seconds
_CLAIMS = 8  # blocks that one ADD waits for at most


class Addresses(Protocol):
    """Where addresses come from; the agent's allocator and its claiming thread."""

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock: ...

    async def claim(self, need: NeedBlock) -> None:
        """Gets the node what is needed; PoolExhausted, Unavailable."""

    def mtu(self, addresses: Iterable[Interface]) -> int:
        """Of a pod's interface, in bytes."""

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[IPPool | None, ...]:
        """The pool of each."""

    async def declare(self, network: Declared, place: Callable[[], None]) -> None:
        """Makes sure that the network has its pools.  `place` is called before they are made, and may refuse.  Raises ConfigError: it
        cannot have them; NetloomError: not now."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The agent's ways into the node's kernel, all of its one loop's thread, but `flush` and `flush_ports`, which block and are called
    in another.  `netns`: a descriptor of the node's namespace."""

    netns: int
    netlink: Netlink
    nft: Nft
    remover: LinkRemover
    flush: Callable[[Collection[Address]], object]
    flush_ports: Callable[[Collection[Published]], object]


class Operations:
    """`look`: looks at the sandboxes that are alive now.  `changed` is called when an attachment came or went."""

    def __init__(
        self, journal: Journal, addresses: Addresses, kernel: Kernel, look: Callable[[], Sandboxes], changed: Callable[[], None]
    ) -> None:
        self._journal, self._addresses, self._kernel = journal, addresses, kernel
        self._look, self._changed = look, changed
        self._adding: dict[AttachmentKey, asyncio.Task[object] | None] = {}
        self._leaving: dict[AttachmentKey, asyncio.Task[None]] = {}
        self._flushing, self._unflushed = asyncio.Lock(), list[Attachment]()
        self._leading: asyncio.Task[None] | None = None
        self._arrived = list[Attachment]()

    async def add(self, request: Add, netns: int, abandoned: Callable[[], bool]) -> Attachment:
        """Raises CniError; then nothing of the request is left, or it is on its way out."""
        key = request.key
        if key in self._adding:
            raise CniError(TRY_AGAIN, f"another ADD of {key.interface} in {key.container_id} is under way")
        self._adding[key] = asyncio.current_task()
        try:
            await self._make_way(key)
            if request.ports:
                await self._make_way_for_ports(request)
            if request.declared is not None:
                await self._declare(request.declared)
            addresses = await self._allocate(request)
            if abandoned():
                raise CniError(TRY_AGAIN, "the runtime has given up")
            return await self._attach(request, addresses, netns)
        except asyncio.CancelledError:
            raise CniError(TRY_AGAIN, "a DEL came before its ADD had ended") from None
        finally:
            del self._adding[key]

    async def delete(self, key: AttachmentKey) -> None:
        """Done when the link is gone from the kernel's tables; also if there is nothing to do."""
        adding = self._adding.get(key)
        if adding is not None:
            adding.cancel()  # it waits: for a block, or for an earlier life of the key to end
        attachment = self._journal.get(key)
        if attachment is not None:
            await self.remove(attachment)

    async def remove(self, attachment: Attachment, *, sandbox_gone: bool = False) -> None:
        """Takes an attachment away: the way of DEL, of GC, of a failed ADD, and of what a killed agent left.  Nothing happens to a
        later one under the same key.  `sandbox_gone`: that it is has just been found out."""
        key = attachment.key
        if not self._is_held(attachment) or key in self._leaving:
            return  # it is gone, or its link is
        if attachment.state is not State.LEAVING:
            self._journal.leave(key)
            self._changed()
        try:
            await self._unwire(attachment, sandbox_gone=sandbox_gone)
        except (DataplaneError, OSError) as e:
            raise CniError(REFUSED, f"{key.interface} of {key.container_id} cannot be removed yet", str(e)) from e
        if key not in self._leaving and self._is_held(attachment):
            task = asyncio.create_task(self._let_go(attachment))
            self._leaving[key] = task
            task.add_done_callback(lambda _: self._leaving.pop(key, None))

    def _is_held(self, attachment: Attachment) -> bool:
        """Whether the journal has this very one; two may have asked for its end, and a new one may be there since."""
        present = self._journal.get(attachment.key)
        return present is not None and present.sequence == attachment.sequence

    async def recover(self) -> None:
        """Brings to an end what a killed agent left half done: an ADD that was never answered, a DEL, is taken away."""
        for attachment in self._journal.attachments.values():
            if attachment.state is State.READY:
                self._lead_here(attachment)
            else:
                log.info("taking away %s %s, which was %s", *attachment.key[1:], attachment.state.value)
                try:
                    await self.remove(attachment)
                except NetloomError as e:
                    log.warning("%s", e)

    def check(self, request: Check, netns: int) -> None:
        """Raises CniError that says what is not as ADD left it.  What later plugins in the chain changed is theirs, but for
        the MAC: rules and neighbours know the pod by the one that it had, and with another it is cut off."""
        attachment = self._journal.get(request.key)
        if attachment is None or attachment.state is not State.READY:
            raise CniError(UNKNOWN_CONTAINER, f"{request.key.interface} of {request.key.container_id} is not attached")
        if attachment.netns != request.netns:
            raise CniError(DIFFERS, "CNI_NETNS is another namespace than at ADD")
        found = [f"prevResult lacks {a}" for a in attachment.addresses if a not in {i.address for i in request.previous.ips}]
        inside = [i for i in request.previous.interfaces if i.name == attachment.key.interface and i.sandbox]
        mac = inside[-1].mac.lower() if inside and inside[-1].mac else attachment.mac
        part = pod_tables(attachment)
        found += inspect(self._kernel.netlink, attachment, part, netns, mac, request.previous.routes)
        if mac != attachment.mac:
            found.append(
                f"a later plugin gave it MAC {mac}, and it may send from {attachment.mac} only: "
                "ask for the MAC here (capability mac, args.cni.mac or CNI_ARGS MAC)"
            )
        if attachment.bandwidth is not None:
            found += limiting.inspect(self._kernel.netlink, part)
        if not self._kernel.nft.admits(sources(attachment)):
            found.append(f"its packets are dropped: {attachment.host_interface} is not admitted")
        if attachment.ports and not self._kernel.nft.publishes(published(attachment)):
            found.append(f"not all of its ports lead to it: {', '.join(map(str, attachment.ports))}")
        if found:
            raise CniError(
                DIFFERS, f"{attachment.key.interface} of {attachment.key.container_id} has changed", "; ".join(found)
            )

    async def status(self, request: Status) -> None:
        """Raises CniError where no pod can be added to the network.  A block that the next ADD needs is claimed now."""
        link = device(self._kernel.netlink, request.bridge_used) if request.bridge_used else None
        if link is not None and (reason := wiring.not_ours(link)):
            raise CniError(UNAVAILABLE, f"bridge: {request.bridge} {reason}")
        try:
            own = request.declared is not None
            wanted = Request(None, (), request.pools, request.bridge_used, network=request.network, own=own)
            found = self._addresses.allocate(wanted)
            if isinstance(found, NeedBlock):
                await self._addresses.claim(found)
        except (ConfigError, PoolExhausted, Unavailable) as e:
            if request.declared is None or not isinstance(e, ConfigError):  # else the first ADD makes its pool
                raise CniError(UNAVAILABLE, str(e), e.hint or "") from e

    async def _make_way(self, key: AttachmentKey) -> None:
        """An earlier life of the same key has to be over."""
        before = self._journal.get(key)
        if before is not None and before.state is State.READY:
            raise CniError(EXISTS, f"{key.interface} of {key.container_id} is attached already")
        if before is not None and key not in self._leaving:
            await self.remove(before)
        if key in self._leaving:
            await asyncio.shield(self._leaving[key])

    async def _make_way_for_ports(self, request: Add) -> None:
        """Pods that have left and had these ports have to be over, too: what is still tracked leads to them."""
        before = [rival.key for rival in rivals(request.ports, self._journal.holdings)]
        for leaving in [self._leaving[key] for key in before if key in self._leaving]:
            await asyncio.shield(leaving)

    async def _declare(self, network: Declared) -> None:
        def place() -> None:
            present = self._journal.holdings.attachments.values()
            require_place(self._kernel.netlink, network.name, network.bridge, network.subnets, present)

        try:
            if network.bridge not in self._journal.holdings.bridges:
                place()  # asked once more when its first pod has an address; but this costs nobody a block
            await self._addresses.declare(network, place)
        except ConfigError as e:
            raise CniError(INVALID_CONFIG, str(e), e.hint or "") from e
        except NetloomError as e:
            raise CniError(TRY_AGAIN, str(e), e.hint or "") from e

    async def _allocate(self, request: Add) -> tuple[Interface, ...]:
        own = request.declared is not None
        wanted = Request(request.namespace, request.addresses, request.pools, request.bridge_used, request.key.network, own)
        try:
            try:
                return await self._choose(wanted)
            except (PoolExhausted, ConfigError, Unavailable):
                if not self._leaving:
                    raise
            await asyncio.wait(self._leaving.values())  # a DEL has been answered: what it frees may be what is wanted
            return await self._choose(wanted)
        except PoolExhausted as e:
            raise CniError(EXHAUSTED, str(e), e.hint or "") from e
        except ConfigError as e:  # which no later try will mend
            raise CniError(INVALID_CONFIG, str(e), e.hint or "") from e
        except NetloomError as e:
            raise CniError(TRY_AGAIN, str(e), e.hint or "") from e

    async def _choose(self, wanted: Request) -> tuple[Interface, ...]:
        for _ in range(_CLAIMS):
            found = self._addresses.allocate(wanted)
            if not isinstance(found, NeedBlock):
                return found
            await self._addresses.claim(found)
        raise Unavailable("claimed blocks are used up as fast as they come")

    async def _attach(self, request: Add, addresses: tuple[Interface, ...], netns: int) -> Attachment:
        bridged = request.wiring is Wiring.BRIDGE
        pools = self._addresses.pools_of(addresses) if bridged else ()
        attachment = attachment_for(request, addresses, self._journal.next_sequence(), self._addresses.mtu(addresses), pools)
        if bridged:
            self._require_port(attachment)
        if attachment.ports:
            self._require_ports(attachment)
        try:
            self._journal.intend(attachment)
        except (JournalUnwritable, ValueError) as e:
            raise CniError(TRY_AGAIN, f"the journal does not take it: {e}") from e
        try:
            taken = wiring.attach(self._kernel.netlink, attachment, pod_tables(attachment), netns, self._kernel.netns)
            if attachment.own_network is not None:
                self._kernel.nft.keep_apart(*apart((), (attachment,)))
            bridges = (attachment.bridge,) if attachment.bridge else ()
            ports = published(attachment)
            self._kernel.nft.admit(sources(attachment), bridges, ports)
            for interface in needs_localnet(ports) if ports else ():
                write_sysctls(localnet(interface, on=True))  # not before the rules that make it safe
            self._journal.commit(attachment.key, taken)
        except Exception as e:
            await self.remove(attachment)
            if not isinstance(e, DataplaneError | JournalUnwritable | OSError):
                raise  # a fault of our own; not even that leaves half a pod
            raise CniError(_code_of(e), f"{request.key.interface} cannot be made in {request.key.container_id}", str(e)) from e
        self._changed()
        self._lead_here(attachment)
        return msgspec.structs.replace(attachment, secondary=taken) if taken else attachment

    def _lead_here(self, attachment: Attachment) -> None:
        """Clients that have been asking for its ports without a connection are led elsewhere, mostly nowhere, as long as they go on.
        The runtime need not wait for that: the whole conntrack table is read, at once, and then for all that have come meanwhile."""
        if any(port.protocol != "tcp" for port in attachment.ports):
            self._arrived.append(attachment)
            if self._leading is None:
                self._leading = asyncio.create_task(self._lead())

    async def _lead(self) -> None:
        try:
            while self._arrived:
                arrived, self._arrived = self._arrived, []
                ports = [port for one in arrived if self._is_held(one) for port in published(one)]
                await asyncio.get_running_loop().run_in_executor(None, self._kernel.flush_ports, ports)
                await asyncio.sleep(_TOGETHER)
        except (DataplaneError, OSError) as e:
            log.warning("clients of new pods' ports may be led elsewhere for a while, conntrack cannot be flushed: %s", e)
        finally:
            self._leading = None

    def _require_ports(self, attachment: Attachment) -> None:
        if reason := unservable(attachment, self._kernel.netlink):
            raise CniError(INVALID_CONFIG, f"runtimeConfig.portMappings: {reason}")
        found = holder(attachment, self._journal.holdings)
        if found is not None:
            port, other = found
            code = TRY_AGAIN if other.state is State.LEAVING else REFUSED
            where = f" of {port.host_address}" if port.host_address else ""
            raise CniError(code, f"port {port.host_port}/{port.protocol}{where} leads to {in_words(other)} already")

    def _require_port(self, attachment: Attachment) -> None:
        """On a bridge frames go where their MAC was last seen: with another pod's MAC one would have its packets.  And the bridge of a
        network with a pool of its own is no other's."""
        present, own = self._journal.holdings.attachments, attachment.own_network
        for other in present.values():
            if other.bridge != attachment.bridge:
                continue
            if other.mac == attachment.mac:
                whose = f"{other.namespace}/{other.pod or other.key.container_id}"
                raise CniError(REFUSED, f"MAC {attachment.mac} is in use by {whose}")
            if own is None and other.own_network is not None:
                raise CniError(INVALID_CONFIG, f"bridge: {attachment.bridge} is the bridge of network {other.key.network}")
        if own is not None:
            subnets = [address.network for address in attachment.addresses]
            try:
                require_place(self._kernel.netlink, attachment.key.network, str(attachment.bridge), subnets, present.values())
            except ConfigError as e:
                raise CniError(INVALID_CONFIG, str(e), e.hint or "") from e

    def _unpublish(self, attachment: Attachment) -> None:
        """The way from 127.0.0.1 goes first: it is safe only behind rules that go with the last port."""
        mine = published(attachment)
        others = [a for a in self._journal.attachments.values() if a.ports and a.state is not State.LEAVING]
        for interface in needs_localnet(mine):
            if not any(interface in needs_localnet(published(other)) for other in others):
                write_sysctls(localnet(interface, on=False))
        self._kernel.nft.withdraw(mine, last=not others)

    async def _unwire(self, attachment: Attachment, *, sandbox_gone: bool) -> None:
        if attachment.ports:
            self._unpublish(attachment)
        self._kernel.nft.expel(sources(attachment))
        bridge = device(self._kernel.netlink, attachment.bridge) if attachment.bridge else None
        if bridge is not None:
            self._leave_bridge(attachment, bridge.index)
        names = [attachment.host_interface]
        if attachment.bandwidth is not None:
            names.append(ifb_name(attachment.host_interface))
        if attachment.secondary or attachment.state is State.PENDING:  # what a killed ADD has done is not known
            await asyncio.get_running_loop().run_in_executor(None, self._take_rules, attachment)
        links = [link for name in names if (link := device(self._kernel.netlink, name)) is not None]
        if not any(link.name == attachment.host_interface for link in links):
            if (link := renamed(self._kernel.netlink, attachment)) is not None:
                log.warning("%s is called %s: taken away under that name", attachment.host_interface, link.name)
                links.append(link)
            elif not sandbox_gone:
                await asyncio.get_running_loop().run_in_executor(None, lambda: uproot(self._look(), attachment))
        for going in [self._kernel.remover.remove(link.index) for link in links]:
            await asyncio.shield(going)  # others may wait for the same link

    def _take_rules(self, attachment: Attachment) -> None:
        sandbox = self._look().open(attachment.netns)
        if sandbox is not None:
            second.take_away(sandbox, attachment, wiring.index_of(attachment))

    def _leave_bridge(self, attachment: Attachment, index: int) -> None:
        """What stood on the bridge for this pod alone goes.  A pass would not take it from a bridge whose name is the user's, and the
        gateway's address would stand there, with a route, when the block is another node's."""
        others = [
            a for a in self._journal.attachments.values() if a.bridge == attachment.bridge and a.state is not State.LEAVING
        ]
        needed = {gateway for other in others for gateway in other.gateways}
        part, kernel = pod_tables(attachment), self._kernel.netlink
        for neighbour in part.neighbours:
            _take_away(kernel, delete_neighbour(index, neighbour.address))
        for own in part.addresses:
            if own.address.ip not in needed:
                _take_away(kernel, delete_address(index, own.address))

    async def _let_go(self, attachment: Attachment) -> None:
        """The kernel has let go of the link: flush its conntrack entries, then the addresses are free (and cool down).

        The whole table is read for that, some milliseconds in which the kernel lets go of links more slowly.  So DELs in a row are
        flushed together, a moment later."""
        self._unflushed.append(attachment)
        async with self._flushing:
            if not self._unflushed:
                return  # it went with others
            await asyncio.sleep(_TOGETHER)
            gone, self._unflushed = self._unflushed, []
            addresses = [address.ip for one in gone for address in one.addresses]
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._kernel.flush, addresses)
            except (DataplaneError, OSError) as e:
                log.warning("addresses stay in use, conntrack cannot be flushed: %s", e)
                return
            for one in gone:
                self._journal.done(one.key, boottime())


def _code_of(error: Exception) -> int:
    """What a pass puts right soon (rules that somebody has flushed) is worth another try."""
    if isinstance(error, DataplaneError) and error.errno == errno.EEXIST:
        return EXISTS
    return TRY_AGAIN if isinstance(error, DataplaneError) and error.table == "nft" else REFUSED


def _take_away(kernel: Netlink, request: bytes) -> None:
    try:
        kernel.transact(request)
    except NetlinkError as e:
        if e.errno not in (errno.ENOENT, errno.EADDRNOTAVAIL):  # gone already
            raise
