"""netloom ipam show | find | check: addresses as the datastore knows them.

What one node knows better (addresses that cool down, its journal) is in `netloom status` on that node.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from netloom.cli import usage
from netloom.cli.context import Context, connection, note, note_broken, output_option
from netloom.cli.get import document
from netloom.cli.kinds import find_view, pod_name
from netloom.cli.printing import answer, cell, clean, count, table
from netloom.errors import ConfigError, Conflict, JournalDamaged, NotFound
from netloom.model.addresses import Address, Prefix, contains
from netloom.model.showing import shown

if TYPE_CHECKING:
    from netloom.cli.usage import BlockUse, PoolUse
    from netloom.datastore import Datastore, Listing
    from netloom.ipam.audit import Finding, Records
    from netloom.ipam.growth import Outlook
    from netloom.model.attachments import NetnsId
    from netloom.model.resources import Endpoint, IPPool


@click.group()
def ipam() -> None:
    """Addresses: how many are used, whose is this one, is any leaked?"""


@ipam.command()
@click.argument("prefix", required=False, metavar="[PREFIX]")
@click.option("--blocks", is_flag=True, help="One line for each block of a node.")
@output_option
@connection
@click.pass_obj
def show(context: Context, prefix: str | None, blocks: bool, output: str) -> None:
    """How full the pools are; in figures of addresses and of blocks; and when they will run out.

    That is known on a node whose agent has been looking for ten minutes: at the rate at which nodes have claimed blocks in the last days.
    """
    within = _prefix(prefix) if prefix else None
    with context.datastore() as datastore:
        records = _records(datastore.list())
    if not records.cluster.pools:
        note("there is no pool; pods get no address until there is one: netloom apply -f POOL.yaml")
    outlooks = {} if blocks else _outlooks(context, records)
    found: Iterable[PoolUse | BlockUse] = usage.blocks(records) if blocks else usage.pools(records, outlooks)
    shown = [use for use in found if within is None or contains(within, use.cidr) or contains(use.cidr, within)]
    if within and not shown:
        raise NotFound(f"{within} has no {'block' if blocks else 'pool'}", hint="see all pools: netloom ipam show")
    if output != "table":
        click.echo(answer(output, "BlockUseList" if blocks else "PoolUseList", items=shown))
    elif shown:
        click.echo(table(usage.BLOCK_COLUMNS if blocks else usage.POOL_COLUMNS, [use.row() for use in shown]))
        names = {use.name for use in shown if isinstance(use, usage.PoolUse)}
        for words in usage.in_words([outlook for name, outlook in outlooks.items() if name in names]):
            click.echo(clean(words))


def _outlooks(context: Context, records: Records) -> Mapping[str, Outlook]:
    """By pool, as far as this node's agent has looked."""
    from netloom.agent import growing
    from netloom.ipam import growth

    looks = growing.read(f"{context.settings.state_dir}/{growing.FILE}")
    now = growth.look(time.time(), records.cluster)
    return {outlook.pool: outlook for outlook in growth.known(records.cluster.pools, now, looks)}


def _prefix(text: str) -> Prefix:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as e:
        raise ConfigError(f"{shown(text)} is no prefix", hint="netloom ipam show --blocks 10.244.0.0/16") from e


def _records(listing: Listing) -> Records:
    from netloom.ipam.audit import Records

    note_broken(listing)
    return Records.of(listing.revision, (stored.resource for stored in listing.items))


@ipam.command()
@click.argument("what", metavar="ADDRESS|[NAMESPACE/]POD")
@output_option
@connection
@click.pass_obj
def find(context: Context, what: str, output: str) -> None:
    """Whose is an address, or which addresses has a pod?"""
    with context.datastore() as datastore:
        records = _records(datastore.list())
    try:
        address = ipaddress.ip_interface(what).ip  # 10.244.0.2/32, as `ip address` and the lab's tables print it, is one too
    except ValueError:
        _show_pods(_pods(what, records), output)
        return
    about = list(_about(address, records))
    if output != "table":
        click.echo(answer(output, "AddressUse", **dict(about)))
        return
    for name, value in about:
        click.echo(f"{name + ':':<11}{cell(value)}")


def _about(address: Address, records: Records) -> Iterator[tuple[str, object]]:
    from netloom.ipam.blocks import pool_of, slot_of

    pool = pool_of(ipaddress.ip_network(address), records.cluster.pools.values())
    if pool is None:
        raise NotFound(f"{address} is in no pool", hint="see the pools: netloom get pools")
    claim = records.claim_around(address)
    yield "address", address
    yield "pool", f"{pool.name} ({pool.spec.cidr})"
    yield "block", claim.cidr if claim else f"{slot_of(pool, address)}, claimed by no node"
    yield "node", claim.node if claim else None
    yield "use", _use(address, claim.cidr if claim else slot_of(pool, address), pool, records)
    for endpoint in records.holders.get(address, ()):
        yield "pod", f"{endpoint.metadata.namespace}/{pod_name(endpoint)}"
        yield "interface", f"{endpoint.spec.interface}, on the host {endpoint.spec.host_interface}"


def _use(address: Address, block: Prefix, pool: IPPool, records: Records) -> str:
    from netloom.ipam.blocks import gateway, kept, node_address

    if any(address in node.spec.tunnel_addresses for node in records.cluster.nodes.values()):
        return "the node itself: its tunnel device"
    if (
        address in kept(block, pool)
        and address not in records.holders
        and (block.prefixlen == pool.spec.block_size or pool.spec.network)
    ):
        own = (pool.spec.cidr.network_address, f"network {pool.spec.network} itself") if pool.spec.network else None
        first, role = own or (node_address(block), "the node itself: its tunnel device")
        return {first: role, gateway(block, pool): "the gateway of bridge wiring"}.get(address, "broadcast")
    if address in records.holders:
        return "a pod" if len(records.holders[address]) == 1 else "SEVERAL pods; see netloom ipam check"
    for reservation in records.cluster.reservations.values():
        if any(address.version == cidr.version and address in cidr for cidr in reservation.spec.reserved_cidrs):
            return f"reserved by {reservation.name}"
    return "free"


def _pods(what: str, records: Records) -> list[Endpoint]:
    namespace, _, name = what.rpartition("/")
    found = [e for e in records.endpoints if pod_name(e) == name and namespace in ("", e.metadata.namespace)]
    if not found:
        raise NotFound(f"there is no pod {what}, and it is no address", hint="see them all: netloom get pods -A")
    return found


def _show_pods(found: list[Endpoint], output: str) -> None:
    if output != "table":
        click.echo(answer(output, "List", items=[document(endpoint) for endpoint in found]))
        return
    view = find_view("pods")
    click.echo(table(view.headers(wide=False), [row for e in found for row in view.lines(e, wide=False)]))


@ipam.command()
@click.option("--repair", is_flag=True, help="Take away what nodes that are gone left behind.")
@output_option
@connection
@click.pass_obj
def check(context: Context, repair: bool, output: str) -> None:
    """Do blocks, pods and nodes agree, and this node's journal?

    Exit code 0: they do.  1: they do not.
    """
    from netloom.ipam.audit import audit

    with context.datastore() as datastore:
        listing = datastore.list()
        records = _records(listing)
        findings = [*audit(records), *_of_this_node(context, records)]
        repaired = _repair(datastore, listing, findings) if repair else 0
    if output == "table":
        for finding in findings:
            _print_finding(finding, repaired=repair and finding.repair is not None)
        click.echo(f"{_counts(records)}: {_verdict(findings, repaired)}")
    else:
        items = [{"message": f.message, "hint": f.hint, "repaired": repair and f.repair is not None} for f in findings]
        click.echo(answer(output, "AddressCheck", ok=len(findings) == repaired, findings=items))
    repairable = sum(f.repair is not None for f in findings)
    if repairable and not repair:
        click.echo(f"hint: {repairable} can be repaired: netloom ipam check --repair", err=True)
    if len(findings) > repaired:
        raise click.exceptions.Exit(1)


def _of_this_node(context: Context, records: Records) -> list[Finding]:
    """What this node's own journal and claims have to say; nothing where no agent has run since boot."""
    from netloom.ipam.audit_node import audit_node
    from netloom.ipam.claims import peek
    from netloom.ipam.journal_lines import read

    settings = context.settings
    if not os.path.exists(f"{settings.run_dir}/journal"):
        return []
    try:
        journal = read(f"{settings.run_dir}/journal")
    except JournalDamaged as e:
        note(f"without this node's own journal: {e}")
        return []
    claims = peek(f"{settings.state_dir}/claims.json")
    if claims is None:
        return []
    return audit_node(records, claims, journal.holdings.attachments.values(), _links(journal.header.netns))


def _links(journals: NetnsId) -> dict[str, str] | None:
    """Aliases by name, where this is the node's own namespace."""
    from netloom.dataplane import netns
    from netloom.dataplane.netlink import Netlink, devices

    own = netns.own()
    try:
        if netns.identify(own) != journals:
            return None
    finally:
        os.close(own)
    with Netlink() as kernel:
        return {link.name: link.alias for link in devices(kernel)}


def _print_finding(finding: Finding, *, repaired: bool) -> None:
    click.echo(clean(f"{'repaired' if repaired else '✗'} {finding.message}"))
    if finding.hint and not repaired:
        click.echo(clean(f"    {finding.hint}"))


def _counts(records: Records) -> str:
    cluster = records.cluster
    blocks, pods, nodes = len(cluster.blocks), len(records.endpoints), len(cluster.nodes)
    return f"{count(blocks, 'block')}, {count(pods, 'pod interface')}, {count(nodes, 'node')}"


def _verdict(findings: list[Finding], repaired: int) -> str:
    if not findings:
        return "all agree"
    return count(len(findings), "problem") + (f", {repaired} repaired" if repaired else "")


def _repair(datastore: Datastore, listing: Listing, findings: list[Finding]) -> int:
    """Each object once: one repair of a block covers all that is wrong with it."""
    revisions = {(s.resource.kind, s.resource.key): s.revision for s in listing.items}
    repairs = {(f.repair.resource.kind, f.repair.resource.key): f.repair for f in findings if f.repair}
    for (kind, key), repair in repairs.items():
        try:
            if repair.delete:
                datastore.delete(kind, key, revisions[kind, key])
            else:
                datastore.update(repair.resource, revisions[kind, key])
        except (Conflict, NotFound) as e:
            raise Conflict(f"{kind.lower()}/{key} was changed by somebody else meanwhile", hint="check again") from e
    return sum(f.repair is not None for f in findings)
