"""Shaping: what one pod may receive and send, from bits as they are asked for to the kernel's token buckets.

    into the pod     a bucket at the host's end of its link
    out of the pod   all that arrives on the host's end goes to a device of its own (ifb), which has the bucket, and then on as ever

A bucket passes what fits into it whole and nothing else, so it holds a frame of the link at least, however little was asked for:
with less every packet would be lost.  And it holds what the rate brings in a millisecond: that late the kernel may be to look
after it, and what had no room meanwhile is lost to the rate.  A bucket that nobody gave a size takes a tenth of a second's worth,
and one packet of 64 KiB, as the kernel hands them on before it cuts them into frames; longer ones are cut before they wait.

What waits is at most what the rate takes away in 25 ms, and four packets of 64 KiB: a connection on this machine knows no distance, so
it has as much on its way when the bucket is empty, and one that loses most of it at once stands still for a second (measured: with
two packets some 200 retransmissions in a second at 20 Mbit/s, with four none).  Not a burst, as tc's `latency` has it: with the
4 Gbit that Kubernetes asks for, packets would wait for minutes.
"""

from __future__ import annotations

from netloom.calc.tables import Tables
from netloom.model.attachments import Attachment, Bandwidth, ifb_name
from netloom.model.desired import Ifb, Limit, Shaping

_FRAME = 18  # bytes besides the MTU: Ethernet's header, with a VLAN's tag
_LATE = 1000  # parts of a second
_PACKET = 65536 + _FRAME
_BURST, _QUEUE = 10, 40  # parts of a second
_WAITING = 4 * _PACKET
_MOST = 2**32 - 1  # the kernel counts bytes of a bucket and of its queue in 32 bits


def shaping(attachment: Attachment, bandwidth: Bandwidth) -> Tables:
    host, mtu = attachment.host_interface, attachment.mtu
    into = limit(bandwidth.ingress_rate, bandwidth.ingress_burst, mtu)
    out = limit(bandwidth.egress_rate, bandwidth.egress_burst, mtu)
    tables = Tables()
    if into or out:
        tables.shaping[host] = Shaping(into, ifb_name(host) if out else "")
    if out:
        tables.links[ifb_name(host)] = Ifb(attachment.host_mac, mtu, attachment.alias)
        tables.shaping[ifb_name(host)] = Shaping(out)
    return tables


def limit(rate: int, burst: int, mtu: int) -> Limit | None:
    """`rate` and `burst` in bits; None where there is no rate."""
    if not rate:
        return None
    per_second, frame = rate // 8, mtu + _FRAME
    size = max(burst // 8 or max(per_second // _BURST, _PACKET), frame, per_second // _LATE)
    return Limit(per_second, min(size, _MOST), min(per_second // _QUEUE + _WAITING, _MOST))
