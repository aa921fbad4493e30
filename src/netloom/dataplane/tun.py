"""TUN devices: a network interface whose cable ends in a process (linux/if_tun.h).

One is made persistent, so that its addresses and routes are there before a process has taken it, and stay when that one ends: then it
has no carrier, and what is sent there is lost.  Packets carry a virtio_net_hdr, so that many may come and go as one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

_SET_OFFLOAD, _SET_NAME, _SET_PERSISTENT = 0x400454D0, 0x400454CA, 0x400454CB
_TUN, _NO_PACKET_INFORMATION, _WITH_HEADER = 0x1, 0x1000, 0x4000
_CHECKSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 1, 2, 4, 8, 0x20, 0x40
_ANY = _CHECKSUM | _TSO4 | _TSO6 | _TSO_ECN
_REQUEST = struct.Struct("16sH22x")
_QUEUE_REQUEST = struct.Struct("16si20x")
_SET_QUEUE_LENGTH = 0x8943  # linux/sockios.h
_QUEUE = 2000
"""Packets that wait while a process is stopped, or another takes over from it; the kernel's 500 are a tenth of a second at 5 000 a
second."""


def create(name: str) -> None:
    """In the calling thread's network namespace; one that is there is taken as it is.  Raises OSError: EINVAL where something else has
    the name, EBUSY where a process has it, ENOENT where the kernel has no TUN."""
    fd = attach(name)
    try:
        fcntl.ioctl(fd, _SET_PERSISTENT, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            fcntl.ioctl(control, _SET_QUEUE_LENGTH, _QUEUE_REQUEST.pack(name.encode(), _QUEUE))
    finally:
        os.close(fd)


def attach(name: str) -> int:
    """The process's end of it; non-blocking.  The device is made if there is none, and then ends with the descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = _REQUEST.pack(name.encode(), _TUN | _NO_PACKET_INFORMATION | _WITH_HEADER)
        fcntl.ioctl(fd, _SET_NAME, request)
    except OSError:
        os.close(fd)
        raise
    return fd


def offload(fd: int) -> bool:
    """Takes packets before they are cut, and with unfinished checksums; whether of UDP, too (Linux 6.2)."""
    try:
        fcntl.ioctl(fd, _SET_OFFLOAD, _ANY | _USO4 | _USO6)
    except OSError:
        fcntl.ioctl(fd, _SET_OFFLOAD, _ANY)
        return False
    return True
