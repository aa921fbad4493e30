"""What is put on a host, as values: paths, contents, modes.

    /opt/cni/bin/netloom                             the CNI plugin: the native one, or the compiled Python one
    /etc/iproute2/rt_protos.d/netloom.conf           so that `ip route` says `proto netloom`
    /etc/systemd/network/05-netloom.link, .network   udev and networkd keep their hands off loom*, before any catch-all
    /etc/systemd/networkd.conf.d/50-netloom.conf     networkd leaves routes alone that others made
    /etc/NetworkManager/conf.d/50-netloom.conf       NetworkManager, too
    /etc/systemd/system/netloom-agent.service        the agent as a service
    /etc/systemd/system/netloom-bird.service, .path  BIRD as another one, from when the agent has written its file
    /etc/cni/net.d/10-netloom.conflist               the network that the runtime gives to pods: last, see `installing`

Texts are beside this module, in files/.  They are put whether or not the program that reads them is there: it may come later.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path

from netloom.cni.compiled import compiled
from netloom.cni.native import HERE
from netloom.dataplane.netlink import PROTOCOL
from netloom.errors import ConfigError
from netloom.model.attachments import Wiring
from netloom.model.showing import shown

CONFIG_DIRECTORY = "/etc/netloom"
UNIT = "netloom-agent.service"
BIRD, BIRD_PATH = "netloom-bird.service", "netloom-bird.path"
LINK = "/etc/systemd/network/05-netloom.link"
CONFLIST = "10-netloom.conflist"
PLUGIN = "netloom"

_TEXTS = Path(__file__).with_name("files")
_CAPABILITIES = ("portMappings", "bandwidth", "ips", "mac")


@dataclass(frozen=True, slots=True)
class File:
    """`editable`: what the user changes in it is kept; the plugin is put right instead."""

    path: str
    content: bytes
    mode: int = 0o644
    editable: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things go on this host, and what may be chosen.  `program`: what starts this program there."""

    program: str = "/opt/netloom/bin/netloom"
    cni_bin_dir: str = "/opt/cni/bin"
    cni_conf_dir: str = "/etc/cni/net.d"
    cni_version: str = "1.0.0"
    network: str = "pods"
    wiring: Wiring = Wiring.ROUTED
    machine: str = ""

    @property
    def conflist(self) -> str:
        return f"{self.cni_conf_dir}/{CONFLIST}"


def files(layout: Layout) -> tuple[File, ...]:
    """All but the conflist, in the order in which they are put."""
    return (
        File(f"{layout.cni_bin_dir}/{PLUGIN}", plugin(layout.machine), 0o755, editable=False),
        File("/etc/iproute2/rt_protos.d/netloom.conf", f"{PROTOCOL} netloom\n".encode()),
        File(LINK, _text("netloom.link")),
        File("/etc/systemd/network/05-netloom.network", _text("netloom.network")),
        File("/etc/systemd/networkd.conf.d/50-netloom.conf", _text("networkd.conf")),
        File("/etc/NetworkManager/conf.d/50-netloom.conf", _text("networkmanager.conf")),
        File(f"/etc/systemd/system/{UNIT}", unit(layout.program)),
        File(f"/etc/systemd/system/{BIRD}", _text(BIRD)),
        File(f"/etc/systemd/system/{BIRD_PATH}", _text(BIRD_PATH)),
    )


def conflist(layout: Layout) -> File:
    """What libcni reads.  Capabilities are what the runtime may ask of us for a pod."""
    network = {
        "cniVersion": layout.cni_version,
        "name": layout.network,
        "plugins": [
            {"type": PLUGIN, "wiring": layout.wiring.value, "capabilities": dict.fromkeys(_CAPABILITIES, True)},
        ],
    }
    return File(layout.conflist, (json.dumps(network, indent=2) + "\n").encode())


def plugin(machine: str = "") -> bytes:
    """For this type of machine (default: the one that we run on)."""
    native = HERE / (machine or platform.machine()) / "netloom-cni"
    return native.read_bytes() if native.exists() else compiled()


def unit(program: str) -> bytes:
    """systemd splits the command at spaces and takes `%` and `$` for its own: none of them may be in the path."""
    if not program.startswith("/") or any(c in program for c in " \t\n%$\\\"';"):
        hint = "install it where the path is plain: /opt/netloom/bin/netloom"
        raise ConfigError(f"systemd cannot start {shown(program)}", path="--program", hint=hint)
    return _text("netloom-agent.service").replace(b"{program}", program.encode())


def _text(name: str) -> bytes:
    return (_TEXTS / name).read_bytes()
