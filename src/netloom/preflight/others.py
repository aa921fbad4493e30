"""Other networks on this host: those that the runtime would take before ours, what is left of others, and who else has a hand in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netloom.calc.encap import ENCAPS
from netloom.calc.pods import BRIDGE_MAC
from netloom.findings import Finding, Level
from netloom.footprint.files import CONFLIST, PLUGIN
from netloom.model.attachments import PREFIX
from netloom.preflight import crossing
from netloom.preflight.facts import Facts, known


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
                both = (program, f"ip6{program[2:]}")
                command = "; ".join(f"{each}-save | grep -v {pattern} | {each}-restore" for each in both)
                yield Finding(Level.WARNING, f"chains {begins[0]}…: left by {plugin}, or it still runs", command, where)


def tunnels(facts: Facts) -> Iterator[Finding]:
    """The UDP ports of our tunnels are ours alone: our rules drop what comes to them from others than nodes."""
    links = known(facts.links)
    for form in crossing.tunnels(facts):
        if not form.port:
            continue
        name, other_port = form.method.value, f"give {form.method.value} another port in the FelixConfiguration"
        devices = [link for link in links if link.vxlan and link.vxlan.port == form.port]
        for link in devices:
            if not link.name.startswith(PREFIX):
                message = f"speaks VXLAN on UDP port {form.port}, as our {name} does: its packets would be dropped"
                yield Finding(Level.PROBLEM, message, f"{other_port}; or ip link delete {link.name}", link.name)
        ours = any(link.name.startswith(ENCAPS[form.method].DEVICE) for link in links)
        if (
            form.port in known(facts.udp) and not devices and not ours
        ):  # the socket of a device or of ours looks like a process's
            message = f"a process listens on UDP port {form.port}, and our {name} needs it"
            yield Finding(Level.PROBLEM, message, f"see who it is: ss -ulpn sport = {form.port}; or {other_port}")


def managers(facts: Facts) -> Iterator[Finding]:
    """Programs that configure interfaces have our word only where `system install` has put it."""
    if facts.agent is None or known(facts.link_file):
        return
    for name in sorted(known(facts.managers)):
        what = "give other MAC addresses to" if name == _UDEV else "change"
        yield Finding(Level.WARNING, f"may {what} {PREFIX}*: nobody has told it whose they are", "netloom system install", name)
