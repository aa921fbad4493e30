"""What has to come through: pings larger than a packet, and files whose digest is compared."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading

from netloom.dataplane import netns
from netloom.model.addresses import Address

PATIENCE = 60.0


def digests(source: int, target: int, address: Address, size: int = 1 << 20) -> tuple[str, str]:
    """Of random bytes as they went into a TCP connection in one namespace, and as they came out in another."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with netns.entered(target):
        listener = socket.create_server((str(address), 0), family=family)
    with netns.entered(source):
        sender = socket.socket(family)
    content, received = os.urandom(size), hashlib.sha256()
    with listener, sender:
        listener.settimeout(PATIENCE)
        sender.settimeout(PATIENCE)
        sender.connect(listener.getsockname()[:2])
        receiver, _ = listener.accept()
        sending = threading.Thread(target=_send, args=(sender, content))
        sending.start()
        with receiver:
            receiver.settimeout(PATIENCE)
            while block := receiver.recv(1 << 16):
                received.update(block)
        sending.join()
    return hashlib.sha256(content).hexdigest(), received.hexdigest()


def _send(sender: socket.socket, content: bytes) -> None:
    sender.sendall(content)
    sender.shutdown(socket.SHUT_WR)


def ping(source: int, address: Address, size: int = 4000, source_address: Address | None = None) -> None:
    """One answer among some questions is enough: packets may get lost on the way.  Raises with what ping says."""
    bound = ("-I", str(source_address)) if source_address else ()
    with netns.entered(source):
        asked = subprocess.run(
            ["ping", "-n", "-c", "1", "-w", f"{PATIENCE:.0f}", "-s", str(size), *bound, str(address)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, f"{address}: {asked.stdout}{asked.stderr}"
