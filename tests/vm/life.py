"""One life of a node, from boot to whatever ends it; runs inside, in the machine's own network namespace, with the agent's own defaults.

    python -m tests.vm.life ['[["10.244.28.193"], …]']

What survives lies on the disk, at /var/lib/netloom: state and datastore.  Pods are added, with the addresses asked for, if any; what the
node has then is printed as JSON.  The agent is left running.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from netloom.datastore import Datastore, connect
from netloom.lab import daemons
from netloom.model.resources import Endpoint, IPPool, Metadata, Node
from tests.agent_process import NODE, POOLS
from tests.cni_calls import CONFIG, NATIVE, call

STATE, RUN, DATASTORE = Path("/var/lib/netloom"), "/run/netloom", "sqlite:/var/lib/netloom/datastore.db"
PODS = 3
PATIENCE = 60.0
_DISK = "/dev/vda"
_TRY_AGAIN = 11


@dataclass(frozen=True, slots=True)
class Seen:
    """`pods`: the addresses of each.  `published`: those that the datastore knows of.  `identity`: what makes it the same node."""

    boot: str
    pods: list[list[str]]
    published: list[list[str]]
    claims: list[str]
    identity: list[str]


def main(wanted: list[list[str]]) -> None:
    _mount()
    _uplink()
    datastore = connect(DATASTORE)
    try:
        if not datastore.list("IPPool").items:
            for name, spec in POOLS.items():
                datastore.create(IPPool(metadata=Metadata(name=name), spec=spec))
        _start()
        pods = [_add(f"pod-{number}", wanted[number] if wanted else []) for number in range(PODS)]
        print(json.dumps(asdict(_seen(datastore, pods))))
    finally:
        datastore.close()


def _mount() -> None:
    _do("modprobe", "virtio_blk")
    if subprocess.run(["blkid", _DISK], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        _do("mkfs.ext4", "-q", _DISK)
    STATE.mkdir(parents=True, exist_ok=True)
    _do("mount", _DISK, str(STATE))


def _uplink() -> None:
    _do("ip", "link", "add", "eth0", "type", "dummy")
    _do("ip", "address", "add", "192.0.2.11/24", "dev", "eth0")
    _do("ip", "address", "add", "2001:db8::11/64", "dev", "eth0", "nodad")
    _do("ip", "link", "set", "eth0", "up")
    _do("ip", "route", "add", "default", "via", "192.0.2.1")


def _start() -> None:
    Path(RUN).mkdir(mode=0o700)
    agent = daemons.Daemon(
        role="agent",
        place="",
        arguments=[sys.executable, "-m", "netloom", "agent"],
        folder=RUN,
        log=f"{RUN}/agent.log",
        environment={"NETLOOM_NODE_NAME": NODE},
    )
    daemons.start("life", [agent], PATIENCE)


def _add(name: str, wanted: list[str]) -> list[str]:
    _do("ip", "netns", "add", name)
    config = {**CONFIG, "args": {"cni": {"ips": wanted}}} if wanted else CONFIG
    deadline = time.monotonic() + PATIENCE
    while (answer := call(NATIVE, "ADD", RUN, name, f"/run/netns/{name}", config)).error == _TRY_AGAIN:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    assert answer.ok, answer
    return [address.partition("/")[0] for address in answer.addresses]


def _seen(datastore: Datastore, pods: list[list[str]]) -> Seen:
    """Once these pods, and no others, are published."""
    deadline = time.monotonic() + PATIENCE
    while True:
        published = sorted(
            [str(address) for address in found.spec.addresses]
            for stored in datastore.list("Endpoint").items
            if isinstance(found := stored.resource, Endpoint)
        )
        if published == sorted(pods) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    stored = datastore.get("Node", NODE)
    node = stored.resource if stored else None
    assert isinstance(node, Node)
    return Seen(
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pods=pods,
        published=published,
        claims=sorted(stored.resource.key for stored in datastore.list("IPBlock").items),
        identity=[node.spec.id, str(node.spec.vtep_mac), *map(str, node.spec.tunnel_addresses)],
    )


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if sys.argv[1:] else [])
