"""How fast TCP goes from one namespace to another."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

from netloom.dataplane import netns

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: what has not been sent is thrown away


def speed(source: int, target: int, address: str, seconds: float, settling: float) -> float:
    """Bits a second that arrive at `address` (in namespace `target`) within `seconds`, of which the first `settling` do not count:
    a burst is over by then."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.entered(target):
        listener = socket.create_server((address, 0), family=family)
    with listener:
        with netns.entered(source):
            sender = socket.socket(family)
        with sender:
            sender.settimeout(30)
            sender.connect(listener.getsockname()[:2])
            receiver, _ = listener.accept()
            sending = threading.Thread(target=_send, args=(sender,), daemon=True)
            sending.start()
            with receiver:
                found = _receive(receiver, seconds, settling)
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            sending.join()
    return found


def _send(sender: socket.socket) -> None:
    """Until the receiver has seen enough, or takes nothing for long."""
    block = bytes(1 << 16)
    with suppress(OSError):
        while True:
            sender.send(block)


def _receive(receiver: socket.socket, seconds: float, settling: float) -> float:
    start = time.monotonic()
    first = last = start + settling
    received = 0
    receiver.settimeout(seconds)
    while last < start + seconds:
        length = len(receiver.recv(1 << 16))
        last = time.monotonic()
        if last >= first:
            received += length
    return received * 8 / (last - first)
