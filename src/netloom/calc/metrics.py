"""Metrics: who may program which.  Pods 0 (IPv6: the kernel's 1024), BIRD 512–1023, routes to nodes from 65536, those that stand
by for BIRD's from 2³¹, blackholes highest.

A distinct metric per node is not for choosing among routes: the kernel's fib_info hash ignores the gateway, so thousands of
routes that differ only in it would sit in one hash chain and make inserting them quadratic.
"""

from __future__ import annotations

import zlib

from netloom.model.addresses import Address

POD = {4: 0, 6: 1024}
BLACKHOLE = 0xFFFFFF00
_NODES = 65536
_NODES_MASK = 0xFFFFF

STANDBY = 1 << 31


def node_metric(name: str) -> int:
    """Two nodes with one metric (about 1 % of them at 5 000 nodes... each harmless) cost a step in a hash chain, nothing else."""
    return _NODES + (zlib.crc32(name.encode()) & _NODES_MASK)


def standby_metric(gateway: Address) -> int:
    return STANDBY + (zlib.crc32(gateway.packed) & _NODES_MASK)
