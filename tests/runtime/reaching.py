"""A pod that asks another all the time, whatever happens to runtime and agent: from within its network namespace, by TCP.

with Reaching(runtime, pod, addresses) as reaching:
    ...
assert reaching.lost == []
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from netloom.dataplane import netns
from tests.runtime.containerd import Containerd
from tests.runtime.cri import Sandbox

_PAUSE = 0.005
_PATIENCE = 30.0
_SENT_AGAIN = struct.Struct("=100xI")  # tcpi_total_retrans in struct tcp_info


def problem(namespace: int, address: str, port: int, timeout: float = 1.0) -> str:
    """Of a TCP connection from within that network namespace; empty where there is none."""
    with netns.entered(namespace):
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with client:
        client.settimeout(timeout)
        try:
            client.connect((address, port))
        except OSError as e:
            return f"{address}: {e}"
    return ""


def eventually(namespace: int, addresses: Sequence[str], port: int) -> None:
    """Connects to each, and waits for what is still starting there."""
    deadline = time.monotonic() + 30
    for address in addresses:
        while found := problem(namespace, address, port):
            assert time.monotonic() < deadline, found
            time.sleep(_PAUSE)


def _lost(namespace: int, address: str, port: int) -> str:
    """What was wrong with a request to a web server, or that its first packet had to be sent again; empty where all was well.  It is
    answered before the next one is made: connections that come faster than a busy server takes them are lost there."""
    with netns.entered(namespace):
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with client:
        client.settimeout(_PATIENCE)
        try:
            client.connect((address, port))
            again = _SENT_AGAIN.unpack_from(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[0]
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while client.recv(4096):
                pass
        except OSError as e:
            return f"{address}: {e}"
    return f"{address}: the first packet had to be sent again" if again else ""


class Reaching:
    def __init__(self, runtime: Containerd, pod: Sandbox, addresses: Sequence[str], port: int = 80) -> None:
        self._netns = netns.open_netns(str(namespace_of(runtime, pod)))
        self._addresses, self._port = addresses, port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._answered = 0
        self.lost: list[str] = []

    def __enter__(self) -> Reaching:
        eventually(self._netns, self._addresses, self._port)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        os.close(self._netns)

    def on(self, seconds: float) -> None:
        """For so long at least, and until more has been asked."""
        before, end = self._answered + len(self.lost), time.monotonic() + seconds
        while time.monotonic() < end or self._answered + len(self.lost) < before + 2:
            time.sleep(_PAUSE)

    def _run(self) -> None:
        start = time.monotonic()
        while not self._end.wait(_PAUSE):
            for address in self._addresses:
                if found := _lost(self._netns, address, self._port):
                    self.lost.append(f"{time.monotonic() - start:.2f} s: {found}")
                else:
                    self._answered += 1


def namespace_of(runtime: Containerd, pod: Sandbox) -> Path:
    """Where the runtime has pinned the pod's network namespace, as a path from here."""
    namespaces = pod.info["runtimeSpec"]["linux"]["namespaces"]
    [path] = [namespace["path"] for namespace in namespaces if namespace["type"] == "network"]
    return runtime.inside.path(path.replace("/var/run/", "/run/"))  # /var/run is a link, and would lead out of the enclosure
