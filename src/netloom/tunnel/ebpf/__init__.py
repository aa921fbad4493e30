"""IPIP and UDP tunnels in the kernel, by two programs of ours (`dataplane.bpf`).

    pod ─ route ─▶ loom.ipip ─ sending ─▶ uplink ══ outer packet ══▶ uplink ─ arriving ─▶ loom.ipip ─ route ─▶ pod

wire       what the programs and the agent agree on: maps, addresses, lengths
header     the outer header, put together on a program's stack
sending    on the device, for what leaves by it
judging    what is asked of a packet that arrives
arriving   on each uplink, for what arrives there
early      before that, in the driver, for datagrams
store      the maps, pinned
tables     drivers: prefix → node, and nodes that are believed
programs   driver: what is attached where

Why there is a device, and what else there might have been: docs/decisions/0012.
"""

from netloom.tunnel.ebpf.programs import Programs
from netloom.tunnel.ebpf.store import Store, forget
from netloom.tunnel.ebpf.tables import Formers, Senders, Tunnels
from netloom.tunnel.ebpf.wire import Counters

__all__ = ["Counters", "Formers", "Programs", "Senders", "Store", "Tunnels", "forget"]
