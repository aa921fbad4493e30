"""What all packets out of one have in common, as the kernel's own segmentation has it (tcp_gso_segment, __udp_gso_segment,
inet_gso_segment).

Each gets the headers; what differs is lengths, checksums, TCP's sequence number and flags, and IPv4's identification: FIN and PSH are
the last one's, CWR is the first one's.  With DF set the identification says nothing (RFC 6864), and all keep the same.

The sum of the pseudo header is not computed: the checksum's field holds it, with the length of the whole, which is taken out again.
So IPv6 with extension headers needs nothing of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from netloom.tunnel.forwarder.checksums import MODULUS, checksum, total
from netloom.tunnel.forwarder.offload import Super
from netloom.tunnel.forwarder.packets import CHECKSUM_AT, CWR, DONT_FRAGMENT, FIN, PSH, TCP


@dataclass(frozen=True, slots=True)
class Template:
    """`header`: of a packet with a full payload, without sequence number, checksum and the flags that only some have.  `rest`: payload
    of the last one.  `l4_sum`: of the TCP or UDP header and the pseudo header, without what differs from packet to packet.
    `identification` None: the header's is everybody's."""

    header: bytes
    l4: int
    size: int
    packets: int
    rest: int
    is_tcp: bool
    sequence: int
    first_flags: int
    last_flags: int
    l4_sum: int
    identification: int | None
    ip_sum: int

    @property
    def checksum(self) -> int:
        """Where it is."""
        return self.l4 + (16 if self.is_tcp else 6)

    def l4_sum_with(self, payload: int) -> int:
        """Of a packet that carries so many bytes: the pseudo header has the length, and so has UDP's own."""
        length = len(self.header) - self.l4 + payload
        return self.l4_sum + length * (1 if self.is_tcp else 2)

    def header_with(self, payload: int, identification: int = 0) -> bytes:
        """`header`, for a packet that carries so many bytes."""
        made = bytearray(self.header)
        set_length(made, self.l4, len(made) + payload, is_udp=not self.is_tcp)
        if made[0] >> 4 == 4:
            if self.identification is not None:
                made[4:6] = identification.to_bytes(2, "big")
            made[10:12] = b"\0\0"
            made[10:12] = checksum(made[: self.l4]).to_bytes(2, "big")
        return bytes(made)


def template(packet: memoryview, many: Super) -> Template:
    l4, is_tcp = many.l4, many.protocol == TCP
    end = l4 + (packet[l4 + 12] >> 4 << 2 if is_tcp else 8)
    payload = len(packet) - end
    packets = -(-payload // many.size)
    header = bytearray(packet[:end])
    field = l4 + CHECKSUM_AT[many.protocol]
    pseudo = (header[field] << 8 | header[field + 1]) - (len(packet) - l4)
    header[field : field + 2] = b"\0\0"
    sequence = first = last = 0
    if is_tcp:
        sequence = int.from_bytes(header[l4 + 4 : l4 + 8], "big")
        header[l4 + 4 : l4 + 8] = bytes(4)
        first, last = header[l4 + 13] & CWR, header[l4 + 13] & (FIN | PSH)
        header[l4 + 13] &= ~(CWR | FIN | PSH)
    else:
        header[l4 + 4 : l4 + 6] = b"\0\0"
    l4_sum = (total(header[l4:]) + pseudo) % MODULUS
    identification = None
    if header[0] >> 4 == 4:
        header[10:12] = b"\0\0"
        if not header[6] & DONT_FRAGMENT:
            identification = header[4] << 8 | header[5]
            header[4:6] = b"\0\0"
    set_length(header, l4, end + many.size, is_udp=not is_tcp)
    ip_sum = 0
    if header[0] >> 4 == 4:
        ip_sum = total(header[:l4])
        header[10:12] = (MODULUS - ip_sum).to_bytes(2, "big")
    return Template(
        header=bytes(header),
        l4=l4,
        size=many.size,
        packets=packets,
        rest=payload - (packets - 1) * many.size,
        is_tcp=is_tcp,
        sequence=sequence,
        first_flags=first,
        last_flags=last,
        l4_sum=l4_sum,
        identification=identification,
        ip_sum=ip_sum,
    )


def set_length(header: bytearray | memoryview, l4: int, length: int, *, is_udp: bool) -> None:
    """Of a packet that is `length` bytes long, wherever it stands: IPv6's is without its first header."""
    if header[0] >> 4 == 4:
        header[2:4] = length.to_bytes(2, "big")
    else:
        header[4:6] = (length - 40).to_bytes(2, "big")
    if is_udp:
        header[l4 + 4 : l4 + 6] = (length - l4).to_bytes(2, "big")
