"""kill -9 of `system uninstall` after each line that it says: the next one finishes what it began."""

from __future__ import annotations

import os
import subprocess
import sys

from netloom.dataplane import netns
from tests.agent_process import machine
from tests.cni_calls import CONFIG, NATIVE, Document, call
from tests.kernel.footprint.host import Host, private_host
from tests.kernel.iproute import run
from tests.residue import differences, kernel_residue
from tests.waiting import eventually

BRIDGED: Document = {**CONFIG, "name": "bridged", "wiring": "bridge", "bridge": "docker9"}
LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))


def killed_after(host: Host, lines: int) -> bool:
    """Whether it was still at work; its pipe holds it up until it is killed."""
    inside = ["nsenter", f"--mount=/proc/{host.holder}/ns/mnt", f"--net=/proc/{os.getpid()}/fd/{host.machine.netns}"]
    command = [
        sys.executable,
        "-m",
        "netloom",
        "system",
        "uninstall",
        "--force",
        "--config",
        f"{host.machine.folder}/agent.yaml",
    ]
    with subprocess.Popen([*inside, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        said = sum(bool(process.stdout.readline()) for _ in range(lines))
        process.kill()
    return said == lines


def test_a_removal_that_is_killed_is_finished_by_the_next() -> None:
    with machine() as made, private_host(made) as host:
        with netns.entered(made.netns):
            run("iptables-nft -P FORWARD DROP")
        host.netloom("system", "install", "--timeout", "0", check=False)
        switches = host.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout
        made.start()  # the switches that it sets stay
        made.end()
        host.netloom("system", "uninstall")
        files, kernel = host.files(), kernel_residue(made.netns)
        assert switches == "0\n"
        lines, step = 1, 1 if LONG else 20
        while True:
            host.netloom("system", "install", "--timeout", "0", check=False)
            made.start()
            host.netloom("system", "install")
            with made.sandbox() as routed, made.sandbox() as bridged:
                for sandbox, config in ((routed, CONFIG), (bridged, BRIDGED)):
                    assert call(NATIVE, "ADD", made.run_dir, sandbox.container_id, sandbox.path, config).ok
                made.end()
                more = killed_after(host, lines)
                host.netloom("system", "uninstall", "--force")
            assert differences(files, host.files()) == [], lines
            eventually(lambda: not differences(kernel, kernel_residue(made.netns)))
            if not more:
                break
            lines += step
        assert lines > 16
