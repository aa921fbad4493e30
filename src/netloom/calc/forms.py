"""Forms: which of them this node takes in, and in which one it sends to each other node; also while the cluster goes from one to another.

There is no coordinator.  A node writes two sets into its Node, and everybody decides from what all have written:

    receives   forms that its kernel takes in, set up by a pass; the newest first
    sends      forms in which it sends to anybody, or is going to; the oldest first

    sending    the wanted form, once both ends receive it and it is in this node's own published `sends`; until then one that is
    receiving  wanted forms, and those that anybody's `sends` names
    closing    what is not received any more is taken out of `receives`, and closed when the datastore shows both: that this has
               been written, and that nobody's `sends` names it

Why no packet is sent into a closed form: the datastore puts writes into one order, and every snapshot is a beginning of it.  A sender
begins when a snapshot shows its own `sends` with the form and the peer's `receives` with it; a receiver closes when a snapshot shows
its own `receives` without it and nobody's `sends` with it.  Whichever was written first, the other one sees it.  No clock is part of
this but a grace for packets on their way.  A node that dies leaves its last word: the others go on receiving what it may send, and
sending what it receives.

A Node without `receives` is of an agent that does not say: it is sent what is wanted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import is_
from typing import NamedTuple, TypeVar

from netloom.calc.encap import ENCAPS
from netloom.calc.same import Same
from netloom.model.edited import alike
from netloom.model.forms import Form, Method, Use, parse_form
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node, NodeSpec
from netloom.model.snapshot import Snapshot

T = TypeVar("T")

DIRECT = Form(Method.NONE)
_MOST = 8
"""Forms of others that are taken in at once: what one node says does not open any number of ports here."""
_PRIVILEGED = 1024
"""Below it are ports of services, DNS among them, and a tunnel takes all datagrams that other nodes send to its port."""


class _Asked:
    """What is asked about, and a key for the answer: as long as all that forms depend on is the same, so is what follows from it.  A pass
    asks a dozen times, and a claim of another node's changes nothing of it."""

    __slots__ = ("_key", "_tables", "host")

    def __init__(self, snapshot: Snapshot, host: Host) -> None:
        # of the snapshot no more is held than is asked, and that is: what goes by identity must not be another object later
        self._tables, self.host = (snapshot.nodes, snapshot.pools, snapshot.configurations), host
        self._key = (
            *(id(snapshot.nodes), id(snapshot.pools), id(snapshot.configurations), snapshot.complete),
            *(host.node, host.node_id, host.vni, host.port, host.udp_port, host.tunnel_addresses),
            *(tuple(host.moving.devices.items()), host.moving.held),
        )

    @property
    def snapshot(self) -> Snapshot:
        nodes, pools, configurations = self._tables
        return Snapshot(complete=self._key[3], nodes=nodes, pools=pools, configurations=configurations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key[:4])


def _kept(function: Callable[[Snapshot, Host], T]) -> Callable[[Snapshot, Host], T]:
    """Answered once for the same circumstances, of which a pass has two or three; at once for the very same objects as last."""
    answered = functools.lru_cache(2)(lambda asked: function(asked.snapshot, asked.host))
    last: tuple[tuple[object, ...], T] | None = None

    @functools.wraps(function)
    def answer(snapshot: Snapshot, host: Host) -> T:
        nonlocal last
        these = snapshot.nodes, snapshot.pools, snapshot.configurations, snapshot.complete, host
        if last is None or not all(map(is_, these, last[0])):
            last = these, answered(_Asked(snapshot, host))
        return last[1]

    return answer


def wanted(snapshot: Snapshot, host: Host, pool: IPPool) -> Form:
    """What the cluster wants of a pool's packets between nodes.  The numbers are the cluster's, else those of this node's own settings."""
    numbers, method = snapshot.configuration, pool.spec.encapsulation.method
    match method:
        case Method.VXLAN:
            return Form(method, numbers.vxlan_vni or host.vni, numbers.vxlan_port or host.port)
        case Method.UDP:
            return Form(method, port=numbers.udp_port or host.udp_port)
    return Form(method)


@_kept
def wanted_of_all(snapshot: Snapshot, host: Host) -> tuple[Form, ...]:
    """Of all pools between nodes; plain packets, too, where neighbours get those."""
    pools = [pool for pool in snapshot.pools.values() if not pool.spec.network]
    plain = {DIRECT} if any(pool.spec.encapsulation.cross_subnet for pool in pools) else set()
    return tuple(sorted({wanted(snapshot, host, pool) for pool in pools} | plain, key=str))


@functools.lru_cache(1024)
def parsed(texts: tuple[str, ...]) -> tuple[Form, ...]:
    """Of a Node, which has checked them; thousands of nodes say the same few."""
    return tuple(parse_form(text) for text in texts)


def own_word(snapshot: Snapshot, host: Host) -> NodeSpec | None:
    """What this node has published of itself, as far as the snapshot shows."""
    node = snapshot.nodes.get(host.node)
    return node.spec if node is not None and node.spec.id == host.node_id else None


class _Senders(NamedTuple):
    """Nodes that send in a form.  `place`: where it stands in what they say, at best; who says many things says most of them late.
    `first`: one of the nodes, by name."""

    nodes: int
    place: int
    first: str


class _Counted:
    """Who sends what, of the nodes that were asked about last, and of others who send the same: it is asked several times in each pass, and
    there may be thousands."""

    def __init__(self) -> None:
        self._last: tuple[Mapping[str, Node], Mapping[Form, _Senders]] = {}, {}

    def of(self, nodes: Mapping[str, Node]) -> Mapping[Form, _Senders]:
        known, found = self._last
        if nodes is not known:
            if not alike(nodes, known, lambda node: node.spec.sends):
                found = _count(nodes)
            self._last = nodes, found
        return found


_senders = _Counted().of


def _count(nodes: Mapping[str, Node]) -> Mapping[Form, _Senders]:
    found: dict[Form, _Senders] = {}
    for node in nodes.values():
        for place, form in enumerate(dict.fromkeys(parsed(node.spec.sends))):
            known = found.get(form)
            if known is None:
                found[form] = _Senders(1, place, node.name)
            else:
                found[form] = _Senders(known.nodes + 1, min(known.place, place), min(known.first, node.name))
    return found


@_kept
def to_receive(snapshot: Snapshot, host: Host) -> tuple[Form, ...]:
    """What others may send, now or soon.  If that is too much, what most of them send: the others follow the pools as this node does."""
    refused = clashes(snapshot, host)
    return tuple(form for form in _heard(snapshot, host) if form not in refused)


@_kept
def _heard(snapshot: Snapshot, host: Host) -> tuple[Form, ...]:
    found, refused = dict.fromkeys(wanted_of_all(snapshot, host)), privileged(snapshot, host)
    sent = _senders(snapshot.nodes)
    others = [f for f, by in sent.items() if f not in found and f not in refused and by[::2] != (1, host.node)]
    others.sort(key=lambda form: (-sent[form].nodes, sent[form].place, str(form)))
    return (*found, *others[:_MOST])


@_kept
def privileged(snapshot: Snapshot, host: Host) -> Mapping[Form, str]:
    """Forms that are not taken in, with a node that sends in each: no pool wants them, this node never had them, and their ports are
    those of services."""
    sent = _senders(snapshot.nodes)
    if not any(0 < form.port < _PRIVILEGED for form in sent):
        return {}
    had = {*wanted_of_all(snapshot, host), *_said(snapshot, host), *host.moving.devices.values()}
    return {form: sent[form].first for form in sorted(sent.keys() - had, key=str) if 0 < form.port < _PRIVILEGED}


@_kept
def clashes(snapshot: Snapshot, host: Host) -> Mapping[Form, Form]:
    """Forms that are not opened, as one of another method has their UDP port: each with that one, which stands here, or was told of, or
    is what more nodes send.  A kernel gives a datagram to one of two tunnels."""
    candidates = _candidates(snapshot, host)
    methods = {(form.port, form.method) for form in candidates if form.port}
    if len(methods) == len({port for port, _ in methods}):
        return {}
    sent, said, standing = _senders(snapshot.nodes), _said(snapshot, host), host.moving.devices.values()
    wants = wanted_of_all(snapshot, host)

    def age(form: Form) -> tuple[object, ...]:
        nodes = sent[form].nodes if form in sent else 0
        return form not in standing, form not in said, -max(nodes, form in wants), form not in wants, str(form)

    holders: dict[int, Form] = {}
    found: dict[Form, Form] = {}
    for form in sorted(filter(lambda form: form.port, candidates), key=age):
        holder = holders.setdefault(form.port, form)
        if holder.method is not form.method:
            found[form] = holder
    return found


@_kept
def leftover(snapshot: Snapshot, host: Host) -> frozenset[Form]:
    """Forms that no pool wants any more, and somebody sends in all the same."""
    sent = _senders(snapshot.nodes)
    return frozenset(sent).difference(wanted_of_all(snapshot, host), privileged(snapshot, host))


def _said(snapshot: Snapshot, host: Host) -> tuple[Form, ...]:
    """What this node has told that it receives or sends."""
    word = own_word(snapshot, host)
    return (*parsed(word.receives), *parsed(word.sends)) if word else ()


@_kept
def opened(snapshot: Snapshot, host: Host) -> Mapping[Form, str]:
    """All that stands here, with the device of each: what is to be received, what this node has said that it receives or sends, and
    what it may not close yet."""
    refused = clashes(snapshot, host)
    kept = () if snapshot.complete else host.moving.devices.keys()
    return _named([form for form in _candidates(snapshot, host) if form not in refused], host.moving.devices, kept)


def _candidates(snapshot: Snapshot, host: Host) -> tuple[Form, ...]:
    held = sorted(host.moving.held, key=str)
    return tuple(dict.fromkeys((*_heard(snapshot, host), *_said(snapshot, host), *held)))


@_kept
def tunnel_pools(snapshot: Snapshot, host: Host) -> tuple[IPPool, ...]:
    """Pools whose packets need this node's own address in them: those that want a tunnel; as long as one stands that none wants, all;
    and as long as any stands, those where there is one already."""
    pools = sorted((pool for pool in snapshot.pools.values() if not pool.spec.network), key=lambda pool: pool.name)
    tunnels = [form for form, device in opened(snapshot, host).items() if device]
    every = not {*tunnels}.issubset(wanted_of_all(snapshot, host))

    def needs(pool: IPPool) -> bool:
        present = any(address in pool.spec.cidr for address in host.tunnel_addresses)
        return every or pool.spec.encapsulation.method is not Method.NONE or (present and bool(tunnels))

    return tuple(filter(needs, pools))


def _named(forms: Iterable[Form], devices: Mapping[str, Form], kept: Collection[str]) -> dict[Form, str]:
    """A form keeps the device that the kernel has for it, whatever else comes or goes; the next one gets the next name.  `kept`: names
    that are taken although nobody is known to need them, as what an agent remembers may be older than what it told."""
    at = {form: name for name, form in devices.items()}
    found: dict[Form, str] = {}
    missing = []
    for form in forms:
        if form in at or form == DIRECT:
            found[form] = at.get(form, "")
        else:
            missing.append(form)
    for form in missing:
        base, taken = ENCAPS[form.method].DEVICE, {*found.values(), *kept}
        names = (base if number == 1 else f"{base}{number}" for number in range(1, len(taken) + 2))
        found[form] = next(name for name in names if name not in taken)
    return found


def use(want: Form, host: Host, own: NodeSpec | None, peer: Node, reaches: Callable[[Form], bool]) -> Use:
    """How this node sends to `peer`, which is wanted to be sent `want`.  `reaches`: whether a form leads there at all, as the nodes
    stand to each other."""
    theirs = parsed(peer.spec.receives) or (want,)
    if own is None or not own.receives:  # it has told nobody anything yet, and has no pods
        form = want if want in theirs else next(filter(reaches, theirs), theirs[0])
        return Use(form, form, "" if form == want else f"{peer.name} does not receive it yet")
    sends = [form for form in parsed(own.sends) if form not in host.moving.leaving]
    mine = (*parsed(own.receives), *sends)
    obstacle = _obstacle(want, host, mine, peer.name, theirs, reaches)
    untried = {form for form in (want, *theirs) if (peer.name, form) in host.moving.untried}
    if not obstacle and want in sends and want not in untried:
        return Use(want, want)
    possible = [] if obstacle else [want]
    possible += [f for f in theirs if f != want and not _obstacle(f, host, mine, peer.name, theirs, reaches)]
    possible = possible or [f for f in theirs if f in mine and reaches(f)]
    tried = [form for form in possible if form not in untried]
    now = _first(tried, sends) or _first(possible, sends) or _first(filter(reaches, theirs), sends) or _first(theirs, sends)
    if not obstacle and now != want:
        obstacle = (
            f"it is tried whether it comes to {peer.name}" if want in sends else "this node has not told yet that it sends it"
        )
        obstacle = f"what is sent in it does not come to {peer.name}" if (peer.name, want) in host.moving.refused else obstacle
    return Use(now, possible[0] if possible else now, "" if now == want else obstacle)


def _first(forms: Iterable[Form], among: Sequence[Form]) -> Form | None:
    return next((form for form in forms if form in among), None)


def _obstacle(
    form: Form, host: Host, mine: Sequence[Form], name: str, theirs: Sequence[Form], reaches: Callable[[Form], bool]
) -> str:
    """What keeps this node from sending in a form to `name`, in words; empty: nothing."""
    if form not in mine:
        return "this node does not receive it yet"
    if form not in theirs:
        return f"{name} does not receive it yet"
    if not reaches(form):
        return f"it does not lead to {name}"
    if host.moving.pods > carries(form, host):
        return f"pods of this node have an MTU of {host.moving.pods}, and it carries {carries(form, host)}"
    return ""


DEFAULT_MTU = 1500


def carries(form: Form, host: Host) -> int:
    """Bytes of the largest packet that crosses in it whole."""
    return (host.mtu or DEFAULT_MTU) - ENCAPS[form.method].overhead(host)


def pod_mtu(snapshot: Snapshot, host: Host, pools: Iterable[IPPool], setting: int) -> int:
    """Of pods with addresses in these pools: what all forms carry in which their packets may go; so it shrinks before anybody sends
    in the new form, and grows when nobody sends in the old one.  What the cluster says goes before `setting`, this node's own."""
    if said := snapshot.configuration.mtu or setting:
        return said
    forms = {wanted(snapshot, host, pool) for pool in pools} | host.moving.leftover
    return min((carries(form, host) for form in forms), default=carries(DIRECT, host))


class Word(NamedTuple):
    """What a node has to say of itself."""

    receives: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    generation: int = 0


@functools.lru_cache(1)
def _used(uses: Same[Mapping[tuple[str, str], Use]]) -> tuple[Form, ...]:
    """Now, and next."""
    different = {(id(use.form), id(use.next)): use for use in uses.it.values()}  # nearly: thousands share a few objects
    return tuple(dict.fromkeys(form for use in different.values() for form in use[:2] if form is not None))


def word(snapshot: Snapshot, host: Host, uses: Mapping[tuple[str, str], Use], stands: Iterable[Form], *, routed: bool) -> Word:
    """After a pass by this snapshot.  `stands`: forms that the kernel takes in now.  `routed`: nothing is sent any more by ways that
    the pass did not want."""
    own = own_word(snapshot, host)
    received, sent = (parsed(own.receives), parsed(own.sends)) if own else ((), ())
    ready, receive = set(stands), to_receive(snapshot, host)
    receives = [form for form in receive if form in ready and form not in received]
    receives += [form for form in received if form in receive]
    sending = dict.fromkeys(form for form in wanted_of_all(snapshot, host) if form in ready or form in sent)
    sending |= dict.fromkeys(_used(Same(uses)))
    sends = [form for form in sent if form in sending or not routed]
    sends += [form for form in sending if form not in sent]
    found = Word(tuple(map(str, receives)), tuple(map(str, sends)), own.generation if own else 0)
    return (
        found if own and found == (own.receives, own.sends, own.generation) else found._replace(generation=found.generation + 1)
    )
