"""Claims: which blocks are this node's, as the node itself keeps it in STATE_DIR/claims.json.

With it a node starts and serves pods while the datastore is away.  The datastore is where a claim is won; this copy is what
was won before.  It is always the smaller of the two: a block is added here after the datastore has it, and before the first
of its addresses is given out; it is removed here before the datastore is told.  So a crash between two steps leaves a claim
in the datastore that is not known here, never the other way round, and `claiming.assert_claims` takes it up again.

Checksummed and written durably.  A damaged file is set aside, and the datastore says which blocks are ours.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from netloom.durable import write_durably
from netloom.model.addresses import Prefix, contains
from netloom.model.resources import Claim, dec_hook

FORMAT = 1


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of this node: a whole slot, or a part of it, down to an address.

    `contested`: the datastore says that it is another's.  Its pods stay, and no more get an address of it.
    `dense`: nothing of it is kept, and a block of one serves any pod.  A part of several addresses always is.
    """

    cidr: Prefix
    slot: Prefix
    contested: bool = False
    dense: bool = False

    @property
    def is_dense(self) -> bool:
        return self.dense or (self.cidr != self.slot and self.cidr.num_addresses > 1)


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """All claims of a node, in order.  `former`: incarnations that this node had before; what they claimed is ours too."""

    node: str
    node_id: str
    held: tuple[Held, ...] = ()
    former: tuple[str, ...] = ()

    @property
    def cidrs(self) -> frozenset[Prefix]:
        return frozenset(held.cidr for held in self.held)

    @property
    def serving(self) -> frozenset[Prefix]:
        """What addresses are given out of."""
        return frozenset(held.cidr for held in self.held if not held.contested)

    def owns(self, claim: Claim) -> bool:
        return claim.node == self.node and claim.node_id in (self.node_id, *self.former)

    def claim(self, cidr: Prefix) -> Claim:
        """What the datastore says of `cidr` if it is ours."""
        return Claim(cidr=cidr, node=self.node, node_id=self.node_id)

    def having(self, held: Iterable[Held]) -> Claims:
        """These claims instead.  A block of one goes into the whole slot's."""
        every = tuple(held)
        widest = [
            one for one in every if not any(o is not one and o.cidr != one.cidr and contains(o.cidr, one.cidr) for o in every)
        ]
        return msgspec.structs.replace(self, held=tuple(sorted(widest, key=lambda h: (h.cidr.version, h.cidr))))

    def without(self, cidrs: Iterable[Prefix]) -> Claims:
        gone = frozenset(cidrs)
        return msgspec.structs.replace(self, held=tuple(h for h in self.held if h.cidr not in gone))

    def reborn(self, node: str, node_id: str) -> Claims:
        """The claims for an agent that runs as this incarnation.  Those of another one give out nothing until the datastore
        has been asked; a file that came from another node is not ours."""
        if self.node != node:
            return Claims(node=node, node_id=node_id)
        if self.node_id == node_id:
            return self
        held = tuple(msgspec.structs.replace(h, contested=True) for h in self.held)
        return Claims(node=node, node_id=node_id, held=held, former=(self.node_id, *self.former))


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    crc32: int
    claims: msgspec.Raw


def save(path: str, claims: Claims) -> None:
    """Raises OSError; then the file is as it was."""
    content = msgspec.json.encode(claims, enc_hook=str)
    file = _File(format=FORMAT, crc32=zlib.crc32(content), claims=msgspec.Raw(content))
    write_durably(path, msgspec.json.encode(file))


def load(path: str) -> Claims | None:
    """None: there is no file, or it was damaged and is now `PATH.damaged`."""
    claims = peek(path)
    if claims is None:
        with suppress(OSError):  # there is none, or it stays; the claims are read from the datastore either way
            os.replace(path, f"{path}.damaged")
    return claims


def peek(path: str) -> Claims | None:
    """Like `load`, for looking at: a damaged file stays where it is."""
    try:
        with open(path, "rb") as stream:
            return _decode(stream.read())
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _decode(data: bytes) -> Claims:
    file = msgspec.json.decode(data, type=_File)
    if file.format != FORMAT or file.crc32 != zlib.crc32(bytes(file.claims)):
        raise ValueError("the checksum or the format does not fit")
    return msgspec.json.decode(bytes(file.claims), type=Claims, dec_hook=dec_hook)
