"""Audit of one node: does the datastore agree with what only this node knows, its journal and its claims?  Pure.

`audit` compares the datastore with itself.  Here the journal is the authority: an Endpoint of this node that is not in it is
left over, and taking it away is safe.  A claim is asserted or given back by the agent, which alone knows whether its addresses
are in use, so for claims the answer is only said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from netloom.ipam.audit import Finding, Records, Repair
from netloom.ipam.claims import Claims
from netloom.model.addresses import Address
from netloom.model.attachments import Attachment, State, parse_alias
from netloom.model.resources import Endpoint

_GONE = "somebody renamed, moved or deleted it: replace the pod"
_AGENT = "the agent sees to it within a minute; if it stays: netloom status"


def audit_node(
    records: Records, claims: Claims, attachments: Collection[Attachment], links: Mapping[str, str] | None = None
) -> list[Finding]:
    """`claims` and `attachments`: of the node on which this runs.  `links`: aliases of its interfaces by name; None: not known."""
    published = {e.name: e for e in records.endpoints if e.spec.node == claims.node}
    return [
        *_left_over(published, attachments),
        *_unpublished(published, attachments),
        *_outside(claims, attachments),
        *_held_twice(attachments),
        *_claims(records, claims),
        *(_links(links, attachments) if links is not None else ()),
    ]


def _left_over(published: dict[str, Endpoint], attachments: Iterable[Attachment]) -> Iterator[Finding]:
    known = {attachment.host_interface for attachment in attachments}
    for name, endpoint in published.items():
        if name not in known:
            yield Finding(f"endpoint {endpoint.key} is not attached on this node any more", Repair(endpoint, delete=True))


def _unpublished(published: dict[str, Endpoint], attachments: Iterable[Attachment]) -> Iterator[Finding]:
    for attachment in attachments:
        endpoint = published.get(attachment.host_interface)
        if attachment.state is not State.READY:
            continue
        if endpoint is None:
            yield Finding(f"{_pod(attachment)} is attached and has no endpoint", hint=_AGENT)
        elif set(endpoint.spec.addresses) != set(_addresses(attachment)):
            shown = ", ".join(map(str, endpoint.spec.addresses))
            held = ", ".join(map(str, _addresses(attachment)))
            yield Finding(f"{_pod(attachment)} has {held}; its endpoint says {shown}", hint=_AGENT)


def _outside(claims: Claims, attachments: Iterable[Attachment]) -> Iterator[Finding]:
    for attachment in attachments:
        for address in _addresses(attachment):
            held = next((h for h in claims.held if address in h.cidr), None)
            if held is None:
                message = f"{_pod(attachment)} has {address}, which lies in no block of this node"
                yield Finding(message, hint=f"replace the pod: kubectl -n {attachment.namespace} delete pod {attachment.pod}")
            elif held.contested:
                message = f"{_pod(attachment)} has {address} of block {held.cidr}, which another node claims"
                yield Finding(message, hint=f"see whose it is: netloom ipam find {address}; then replace the pod")


def _held_twice(attachments: Iterable[Attachment]) -> Iterator[Finding]:
    holders: dict[Address, list[str]] = defaultdict(list)
    for attachment in attachments:
        for address in _addresses(attachment):
            holders[address].append(_pod(attachment))
    for address, pods in holders.items():
        if len(pods) > 1:
            yield Finding(f"{address} is held by {' and '.join(pods)} on this node", hint="replace one of the pods")


def _claims(records: Records, claims: Claims) -> Iterator[Finding]:
    declared = {c.cidr for b in records.cluster.blocks.values() for c in b.spec.claims if claims.owns(c)}
    for cidr in sorted(declared - claims.cidrs, key=str):
        yield Finding(f"{cidr} is claimed for this node, which does not know of it", hint=_AGENT)
    for held in claims.held:
        if held.cidr not in declared and not held.contested:
            yield Finding(f"{held.cidr} is this node's, and the datastore does not say so", hint=_AGENT)


def _links(links: Mapping[str, str], attachments: Iterable[Attachment]) -> Iterator[Finding]:
    """What interfaces say of whose they are is there for as long as they are, whatever else is forgotten."""
    known = {attachment.key: attachment for attachment in attachments}
    for attachment in known.values():
        if attachment.state is State.READY and attachment.host_interface not in links:
            yield Finding(
                f"{_pod(attachment)} is attached and its interface {attachment.host_interface} is not there", hint=_GONE
            )
    for name, owner in ((name, parse_alias(alias)) for name, alias in links.items()):
        attached = known.get(owner.key) if owner else None
        if owner is None or (attached is not None and attached.host_interface == name):
            continue
        whose = _pod(attached) if attached else f"container {owner.key.container_id}, which is not attached,"
        held = ", ".join(str(address.ip) for address in owner.addresses)
        yield Finding(
            f"interface {name} says that it is the one of {whose} with {held}", hint=f"see it: ip -d link show {name}"
        )


def _addresses(attachment: Attachment) -> tuple[Address, ...]:
    return tuple(interface.ip for interface in attachment.addresses)


def _pod(attachment: Attachment) -> str:
    return f"pod {attachment.namespace}/{attachment.pod or attachment.key.container_id}"
