"""Other networks on this host: those that the runtime would take before ours, what is left of others, and who else has a hand in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netloom.calc.pods import BRIDGE_MAC
from netloom.findings import Finding, Level
from netloom.footprint.files import CONFLIST, PLUGIN
from netloom.model.attachments import PREFIX
from netloom.preflight.facts import Facts, known
from netloom.preflight.pools import tunnels_wanted


@dataclass(frozen=True, slots=True)
class Trace:
    """What a plugin leaves: names of interfaces, and how the names of its chains begin."""

    links: re.Pattern[str]
    chains: tuple[str, ...] = ()


TRACES: Mapping[str, Trace] = {
    "flannel": Trace(re.compile(r"flannel[0-9.].*|flannel-.*|cni0"), ("FLANNEL-",)),
    "calico": Trace(re.compile(r"cali[0-9a-f]{11}|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali"), ("cali-", "cali:")),
    "kube-router": Trace(
        re.compile(r"kube-bridge|kube-dummy-if|tun-[0-9a-f]{11}"), ("KUBE-ROUTER-", "KUBE-NWPLCY-", "KUBE-POD-FW-")
    ),
    "cilium": Trace(re.compile(r"cilium_.*|lxc[0-9a-f]{8,}|lxc_health"), ("CILIUM_", "OLD_CILIUM_")),
    "weave": Trace(re.compile(r"weave|datapath|vxlan-6784|vethwe.*"), ("WEAVE-",)),
    "antrea": Trace(re.compile(r"antrea-.*"), ("ANTREA-",)),
}
_UDEV = "systemd-udevd"


def networks(facts: Facts) -> Iterator[Finding]:
    """The runtime takes the first file by name."""
    found = known(facts.networks)
    ours = next((n for n in found if n.path.endswith(f"/{CONFLIST}")), None)
    for network in found:
        name = network.path.rpartition("/")[2]
        if name < CONFLIST and PLUGIN not in network.types:
            taken = f"network {network.name!r} ({', '.join(network.types)})" if network.name else "what cannot be read"
            level = Level.PROBLEM if ours else Level.WARNING
            message = f"comes before {CONFLIST}: the runtime gives pods {taken}"
            yield Finding(level, message, f"mv {network.path} {network.path}.off", network.path)
        elif name == CONFLIST and PLUGIN not in network.types:
            message = "is where our network belongs, and is another one"
            yield Finding(Level.PROBLEM, message, f"mv {network.path} {network.path}.off; netloom system install", network.path)


def leftovers(facts: Facts) -> Iterator[Finding]:
    """What other plugins leave behind answers for addresses, and drops."""
    links = [link for link in known(facts.links) if not link.name.startswith(PREFIX) and link.mac != BRIDGE_MAC]
    chains = {chain.name for chain in known(facts.chains) if chain.table.name in ("filter", "nat", "mangle", "raw")}
    older = {line.split()[1] for lines in known(facts.legacy).values() for line in lines or () if line.startswith("-N ")}
    for plugin, trace in TRACES.items():
        names = sorted(link.name for link in links if trace.links.fullmatch(link.name))
        if names:
            message = f"{', '.join(names)}: left by {plugin}, or it still runs"
            yield Finding(Level.WARNING, message, "; ".join(f"ip link delete {name}" for name in names))
        for where, present, program in (
            ("iptables", chains, "iptables-nft"),
            ("iptables' legacy variant", older, "iptables-legacy"),
        ):
            begins = [begin for begin in trace.chains if any(name.startswith(begin) for name in present)]
            if begins:
                pattern = " ".join(f"-e {begin.rstrip(':-_')}" for begin in begins)
                command = f"{program}-save | grep -v {pattern} | {program}-restore; ip6{program[2:]}-save | grep -v {pattern} | ip6{program[2:]}-restore"
                yield Finding(Level.WARNING, f"chains {begins[0]}…: left by {plugin}, or it still runs", command, where)


def tunnels(facts: Facts) -> Iterator[Finding]:
    """The port of our VXLAN is ours alone: our rules drop what comes to it from others than nodes."""
    if not tunnels_wanted(facts):
        return
    port = facts.settings.vxlan_port
    other = "set vxlanPort to another number in /etc/netloom/agent.yaml on every node; or ip link delete {}"
    for link in known(facts.links):
        if link.vxlan and link.vxlan.port == port and not link.name.startswith(PREFIX):
            message = f"speaks VXLAN on UDP port {port}, as our tunnels do: its packets would be dropped"
            yield Finding(Level.PROBLEM, message, other.format(link.name), link.name)
    devices = any(link.vxlan and link.vxlan.port == port for link in known(facts.links))
    if port in known(facts.udp) and not devices:  # a device's own socket looks like a process's
        message = f"a process listens on UDP port {port}, and our tunnels need it"
        yield Finding(Level.PROBLEM, message, f"see who it is: ss -ulpn sport = {port}; or set vxlanPort on every node")


def managers(facts: Facts) -> Iterator[Finding]:
    """Programs that configure interfaces have our word only where `system install` has put it."""
    if facts.agent is None or known(facts.link_file):
        return
    for name in sorted(known(facts.managers)):
        what = "give other MAC addresses to" if name == _UDEV else "change"
        yield Finding(Level.WARNING, f"may {what} {PREFIX}*: nobody has told it whose they are", "netloom system install", name)
