"""The passages in nftables: iptables' nft variant and firewalld.  One dump of chains tells whether there is anything to do.

Rules of ours are known by their comment, and a jump to our chain by the chain's name in it, because iptables-save and
iptables-restore bring rules back without our comments.  For the same reason no rule of ours looks anything up in a set: iptables
shows, saves and restores such a rule without that condition.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

from netloom.dataplane.foreign.fates import Fate
from netloom.dataplane.foreign.gate import DOCKER, FORWARD, GATES, INPUT_GATES, OWN_CHAIN, OWN_CHAINS, OWN_INPUT, gate, tunnels
from netloom.dataplane.foreign.rules import Rules
from netloom.dataplane.netlink.wire import AF_INET, AF_INET6, attributes, to_text
from netloom.dataplane.nft import expressions as e
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import (
    INET,
    TableId,
    add_chain,
    add_rule,
    comment_data,
    delete_chain,
    delete_rule,
    flush_chain,
    get_chains,
    get_rules,
)
from netloom.errors import DataplaneError
from netloom.model.addresses import Prefix
from netloom.model.desired import Filter, Outer
from netloom.reconcile import Outcome

_VERSIONS: Final = {TableId(AF_INET, "filter"): (4,), TableId(AF_INET6, "filter"): (6,), TableId(INET, "firewalld"): (4, 6)}
TABLES: Final = frozenset(_VERSIONS)
"""Where other firewalls in nftables would hold pods' traffic up."""
FAMILIES: Final = {INET: (4, 6), AF_INET: (4,), AF_INET6: (6,)}
_DROP = 0
_INPUT = 1  # NF_INET_LOCAL_IN
_PORT_OFFSET = 2
_JUMP_COMMENTS: Final = {OWN_CHAIN: "netloom: traffic of pods", OWN_INPUT: "netloom: tunnels of nodes"}


class Chain(NamedTuple):
    """`input`: it hooks in where the node takes packets for itself."""

    drops: bool
    input: bool


_Chains = Mapping[str, Chain]
_Accepts = list[tuple[list[bytes], str]]


class _Rule(NamedTuple):
    handle: bytes
    userdata: bytes
    steps: bytes

    def jumps_to(self, chain: str) -> bool:
        """A verdict holds the chain's name as text."""
        return chain.encode() + b"\0" in self.steps


def read_chains(kernel: Nfnetlink) -> dict[TableId, dict[str, Chain]]:
    """Of all tables, by name."""
    found: dict[TableId, dict[str, Chain]] = {}
    for _, family, body in kernel.dump(get_chains()):
        chain = attributes(body)
        drops = 5 in chain and int.from_bytes(chain[5], "big") == _DROP
        hook = int.from_bytes(attributes(chain[4]).get(1, b""), "big") if 4 in chain else None
        takes_in = family in FAMILIES and hook == _INPUT
        found.setdefault(TableId(family, to_text(chain[1])), {})[to_text(chain[3])] = Chain(drops, takes_in)
    return found


class Tables:
    def __init__(self) -> None:
        self._kernel = Nfnetlink()

    def close(self) -> None:
        self._kernel.close()

    def reconcile(self, want: Filter) -> Outcome:
        put = deleted = 0
        failures = []
        found, families = read_chains(self._kernel), tunnels(want)
        for table, versions in _VERSIONS.items():
            if table not in found:
                continue
            passing = sorted((p for p in want.pools if p.version in versions), key=lambda p: (p.version, p))
            tunneled = [version for version in versions if version in families]
            try:
                new, gone = self._repair(table, found[table], passing, tunneled, sorted(want.taken_in))
            except DataplaneError as error:
                failures.append(_explained(table, error))
            else:
                put, deleted = put + new, deleted + gone
        return Outcome(put, deleted, tuple(failures))

    def _repair(
        self, table: TableId, chains: _Chains, pools: list[Prefix], tunneled: list[int], outers: list[Outer]
    ) -> tuple[int, int]:
        """One transaction, if anything is wrong; how many rules were put and deleted."""
        standing = {chain: self._rules(table, chain) for chain in (*GATES, *INPUT_GATES) if chain in chains}
        docker = any(rule.jumps_to(DOCKER) for rule in standing.get(FORWARD, ()))
        closed = gate({name: chain.drops for name, chain in chains.items()}, pools, docker=docker)
        accepts = list(_accepts(table, pools))
        new, gone = self._passage(table, chains, standing, OWN_CHAIN, GATES, closed, accepts)
        closed = self._input_gate(table, chains, tunneled, outers)
        more, less = self._passage(table, chains, standing, OWN_INPUT, INPUT_GATES, closed, [*map(_accept_tunnels, outers)])
        new, gone = new + more, gone + less
        if new or gone:
            self._kernel.transact([*new, *gone])
        return len(new), len(gone)

    def _passage(
        self,
        table: TableId,
        chains: _Chains,
        standing: Mapping[str, list[_Rule]],
        name: str,
        gates: Iterable[str],
        chosen: str | None,
        wanted: _Accepts,
    ) -> tuple[list[Message], list[Message]]:
        """The chain `name` with these rules, and one jump to it, in the gate that was chosen: what to put, what to delete."""
        new: list[Message] = []
        if chosen is None and name not in chains:
            return new, []
        jumps = [(chain, rule) for chain in gates for rule in standing.get(chain, ()) if rule.jumps_to(name)]
        if chosen:
            present = [rule.userdata for rule in self._rules(table, name)] if name in chains else []
            if present != [comment_data(comment) for _, comment in wanted]:
                new += (add_chain(table, name), flush_chain(table, name))
                new += (add_rule(table, name, steps, comment) for steps, comment in wanted)
            right = next((jump for jump in jumps if jump[0] == chosen), None)
            if right:
                jumps.remove(right)
            else:
                new.append(add_rule(table, chosen, (e.counter(), e.jump(name)), _JUMP_COMMENTS[name], first=True))
        gone = [delete_rule(table, chain, rule.handle) for chain, rule in jumps]
        if not chosen:
            gone += (flush_chain(table, name), delete_chain(table, name))
        return new, gone

    def _input_gate(self, table: TableId, chains: _Chains, versions: Collection[int], outers: Collection[Outer]) -> str | None:
        """The chain that may drop what other nodes send."""
        rules = Rules(self._kernel, table)
        for chain in INPUT_GATES:
            for version, outer in product(versions, outers) if chain in chains else ():
                drops, closed = chains[chain].drops, Fate.DROPPED
                if closed in rules.fate(chain, outer, version, drops=drops, until=closed, without=OWN_CHAINS):
                    return chain
        return None

    def _rules(self, table: TableId, chain: str) -> list[_Rule]:
        found = [attributes(body) for _, _, body in self._kernel.dump(get_rules(table, chain))]
        return [_Rule(rule[3], rule.get(7, b""), rule.get(4, b"")) for rule in found]


def _explained(table: TableId, error: DataplaneError) -> DataplaneError:
    """firewalld keeps its table to itself from 2.1 on, unless it is told otherwise."""
    if error.errno != errno.EPERM or table.name != "firewalld":
        return error
    words = "set NftablesTableOwner=no in /etc/firewalld/firewalld.conf, then systemctl restart firewalld"
    return DataplaneError(
        "nft", str(table), f"{os.strerror(errno.EPERM)}, so pods' traffic is held up: {words}", errno=errno.EPERM
    )


def _accept_tunnels(outer: Outer) -> tuple[list[bytes], str]:
    """From anybody: `inet netloom` drops what is not from a node, and a drop is final wherever it stands."""
    to_port = [e.load(e.Header.TRANSPORT, _PORT_OFFSET, 2) + e.equals(struct.pack(">H", outer.port))] if outer.port else []
    return [e.protocol(outer.protocol), *to_port, e.counter(), e.accept()], f"netloom: tunnels, {outer}"


def _accepts(table: TableId, pools: list[Prefix]) -> Iterator[tuple[list[bytes], str]]:
    """Our chain's rules for pods, in the form that iptables' nft variant gives its own."""
    for pool in pools:
        version = e.ip_version(pool.version, bridge=False) if table.family == INET else b""
        for word, address in (("from", e.source(pool.version)), ("to", e.destination(pool.version))):
            steps = [*([version] if version else []), address + e.within(pool), e.counter(), e.accept()]
            yield steps, f"netloom: {word} {pool}"
