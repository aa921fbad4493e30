"""What a forwarder counts: of each peer what went there and came from there (table.Peer), and here what got nowhere, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Lost:
    """Out of the TUN:
    unknown     to an address that no peer has (ICMP: unreachable)
    too_big     for the path to the peer (ICMP: too big)
    unreachable no route to the peer (ICMP: unreachable)
    unsent      refused by the kernel: a firewall, a full queue
    Into the TUN:
    strangers   datagrams from an address that is no node's
    liars       packets whose source is not of the node that sent them
    unwritten   refused by the kernel
    congested   met congestion on their way, and could not bear a mark (RFC 6040)
    Either way:
    malformed   no IP packet, or cut short
    And ICMP errors that were not sent, since there were too many: `unanswered`."""

    unknown: int = 0
    too_big: int = 0
    unreachable: int = 0
    unsent: int = 0
    strangers: int = 0
    liars: int = 0
    unwritten: int = 0
    congested: int = 0
    malformed: int = 0
    unanswered: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
