"""Tunnels of ours, where the kernel has no device for them or nobody may load one: an inner IP packet, and around it an outer header.

ebpf        in the kernel, by programs of ours: IPIP and UDP
forwarder   in user space, a process of its own: Flannel's classic UDP way
"""
