"""What a call costs before any work is done: the clients against a Go plugin, median (and fastest) of many.

    python bench/client_start.py [COUNT]

VERSION is answered by the executable itself; the round trip goes to an agent that answers at once.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from netloom.cni import client, protocol
from netloom.cni.compiled import compiled
from netloom.cni.native import executable
from netloom.durable import write_durably

CONFIG = b'{"cniVersion":"1.1.0","name":"bench","type":"netloom"}'
GO_PLUGIN = Path("/usr/lib/cni/ptp")  # Debian: containernetworking-plugins


def agent(server: socket.socket) -> None:
    answer = protocol.ACCEPTED + protocol.pack_answer(0, b"{}")
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recvmsg(1 << 16, 64)
            connection.send(answer)


def call(file: Path, environment: dict[str, str]) -> float:
    """Milliseconds from the start of the process to its end, with stdin and stdout as pipes.

    posix_spawn(3) is vfork(2) underneath: the size of this process does not count."""
    stdin, config = os.pipe()
    result, stdout = os.pipe()
    os.write(config, CONFIG)
    os.close(config)
    began = time.perf_counter()
    pid = os.posix_spawn(
        file, [str(file)], environment, file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    )
    _, status = os.waitpid(pid, 0)
    elapsed = (time.perf_counter() - began) * 1000
    os.close(stdout)
    answer = os.read(result, 4096)
    os.close(stdin)
    os.close(result)
    if status or not answer:
        raise SystemExit(f"{file} failed: {answer!r}")
    return elapsed


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{'executable':<28}{'VERSION ms':>16}{'round trip ms':>16}")
    with tempfile.TemporaryDirectory() as run_dir, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{run_dir}/{protocol.SOCKET}")
        server.listen(64)
        threading.Thread(target=agent, args=(server,), daemon=True).start()
        environment = {
            "NETLOOM_RUN_DIR": run_dir,
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_CONTAINERID": "x",
            "CNI_IFNAME": "eth0",
        }
        compact = Path(run_dir) / "client.py, compiled"
        write_durably(str(compact), compiled(), mode=0o755)
        for file in (executable(), Path(client.__file__), compact, GO_PLUGIN):
            if not file.exists():
                continue
            figures = []
            for command in ("VERSION",) if file == GO_PLUGIN else ("VERSION", "ADD"):
                times = [call(file, environment | {"CNI_COMMAND": command}) for _ in range(count)]
                figures.append(f"{statistics.median(times):.2f} ({min(times):.2f})")
            print(f"{file.name:<28}" + "".join(f"{figure:>16}" for figure in figures))


if __name__ == "__main__":
    main()
