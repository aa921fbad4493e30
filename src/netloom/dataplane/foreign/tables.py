"""The passage in nftables: iptables' nft variant and firewalld.  One dump of chains tells whether there is anything to do.

Rules of ours are known by their comment, and a jump to our chain by the chain's name in it, because iptables-save and
iptables-restore bring rules back without our comments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from netloom.dataplane.foreign.gate import DOCKER, FORWARD, GATES, OWN_CHAIN, gate
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
from netloom.reconcile import Outcome

_VERSIONS: Final = {TableId(AF_INET, "filter"): (4,), TableId(AF_INET6, "filter"): (6,), TableId(INET, "firewalld"): (4, 6)}
TABLES: Final = frozenset(_VERSIONS)
"""Where other firewalls in nftables would hold pods' traffic up."""
_DROP = 0
_JUMP_COMMENT = "netloom: traffic of pods"


class _Rule(NamedTuple):
    handle: bytes
    userdata: bytes
    steps: bytes

    def jumps_to(self, chain: str) -> bool:
        """A verdict holds the chain's name as text."""
        return chain.encode() + b"\0" in self.steps


class Tables:
    def __init__(self) -> None:
        self._kernel = Nfnetlink()

    def close(self) -> None:
        self._kernel.close()

    def reconcile(self, pools: Collection[Prefix]) -> Outcome:
        put = deleted = 0
        failures = []
        for table, chains in self._chains().items():
            passing = sorted((p for p in pools if p.version in _VERSIONS[table]), key=lambda p: (p.version, p))
            try:
                new, gone = self._repair(table, chains, passing)
            except DataplaneError as error:
                failures.append(error)
            else:
                put, deleted = put + new, deleted + gone
        return Outcome(put, deleted, tuple(failures))

    def _repair(self, table: TableId, chains: dict[str, bool], pools: list[Prefix]) -> tuple[int, int]:
        """One transaction, if anything is wrong; how many rules were put and deleted."""
        standing = {chain: self._rules(table, chain) for chain in GATES if chain in chains}
        docker = any(rule.jumps_to(DOCKER) for rule in standing.get(FORWARD, ()))
        chosen = gate(chains, pools, docker=docker)
        if chosen is None and OWN_CHAIN not in chains:
            return 0, 0
        new: list[Message] = []
        jumps = [(chain, rule) for chain, rules in standing.items() for rule in rules if rule.jumps_to(OWN_CHAIN)]
        if chosen:
            wanted = list(_accepts(table, pools))
            present = [rule.userdata for rule in self._rules(table, OWN_CHAIN)] if OWN_CHAIN in chains else []
            if present != [comment_data(comment) for _, comment in wanted]:
                new += (add_chain(table, OWN_CHAIN), flush_chain(table, OWN_CHAIN))
                new += (add_rule(table, OWN_CHAIN, steps, comment) for steps, comment in wanted)
            right = next((jump for jump in jumps if jump[0] == chosen), None)
            if right:
                jumps.remove(right)
            else:
                new.append(add_rule(table, chosen, (e.counter(), e.jump(OWN_CHAIN)), _JUMP_COMMENT, first=True))
        gone = [delete_rule(table, chain, rule.handle) for chain, rule in jumps]
        if not chosen:
            gone += (flush_chain(table, OWN_CHAIN), delete_chain(table, OWN_CHAIN))
        if new or gone:
            self._kernel.transact([*new, *gone])
        return len(new), len(gone)

    def _chains(self) -> dict[TableId, dict[str, bool]]:
        """The chains of the tables that may stand in the way: by name, whether their policy is to drop."""
        found: dict[TableId, dict[str, bool]] = {}
        for _, family, body in self._kernel.dump(get_chains()):
            chain = attributes(body)
            table = TableId(family, to_text(chain[1]))
            if table in _VERSIONS:
                drops = 5 in chain and int.from_bytes(chain[5], "big") == _DROP
                found.setdefault(table, {})[to_text(chain[3])] = drops
        return found

    def _rules(self, table: TableId, chain: str) -> list[_Rule]:
        found = [attributes(body) for _, _, body in self._kernel.dump(get_rules(table, chain))]
        return [_Rule(rule[3], rule.get(7, b""), rule.get(4, b"")) for rule in found]


def _accepts(table: TableId, pools: list[Prefix]) -> Iterator[tuple[list[bytes], str]]:
    """Our chain's rules, in the form that iptables' nft variant gives its own."""
    for pool in pools:
        version = e.ip_version(pool.version, bridge=False) if table.family == INET else b""
        for word, address in (("from", e.source(pool.version)), ("to", e.destination(pool.version))):
            steps = [*([version] if version else []), address + e.within(pool), e.counter(), e.accept()]
            yield steps, f"netloom: {word} {pool}"
