"""The forwarder: the UDP tunnel in user space, for hosts where eBPF is not allowed.

    pod ─▶ route … dev loom.udp ─▶ TUN ─read─▶ outward ─sendmsg─▶ UDP 8285 ──wire──▶ inward ─write─▶ TUN ─▶ route ─▶ pod
                                                  │ prefix → peer                        │ outer source believed?
                                                  └ ICMP back to the sender              └ inner source that peer's?

On the wire it is Flannel's `udp`: a datagram is one inner IP packet, and nothing else.

It is a process of its own (`process`), started by the agent and outliving it.  What it knows it is told through a unix socket
(`control`): the whole table, then changes of it.  A newer process takes TUN and sockets over from an older one by descriptor, between
two packets.  It has no privileges left when it reads the first packet.

What makes it fast is that a system call costs as much for 64 KiB as for one packet: the TUN gives TCP and UDP before they are cut into
packets (virtio_net_hdr, linux/virtio_net.h), one sendmsg with UDP_SEGMENT sends dozens of datagrams, UDP_GRO receives as many, and
one write gives them to the kernel as one.  The cutting and merging in between is `bulk`.
"""
