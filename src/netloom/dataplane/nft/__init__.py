"""Our nftables: the ruleset as data, and the driver that keeps it in the kernel, without starting a process.

expressions  what a rule does, as bytes
objects      tables, chains, sets, elements, rules as messages
nfnetlink    the socket: a batch is a transaction
intervals    prefixes as disjoint ranges
sets         Filter → elements
ruleset      Filter → everything
events       what others did
standing     whether an earlier life of ours built what stands
tables       built, adjusted, taken away; and one that stands only while it is needed
ports        published ports, in a table of their own
driver       Nft

nft = Nft()
nft.reconcile(desired.filter)
nft.admit([Source("loom0123456789a", mac, address)])
"""

from netloom.dataplane.nft.driver import Nft
from netloom.dataplane.nft.events import Change

__all__ = ["Change", "Nft"]
