"""What the kernel can do, and how its switches stand."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.errors import ConfigError
from netloom.findings import Finding, Level
from netloom.model.host import Uplink
from netloom.preflight.addresses import choice, own
from netloom.preflight.facts import Facts, known

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_MODULES = {
    "veth": "veth",
    "bridge": "bridge",
    "vxlan": "vxlan",
    "ifb": "ifb",
    "bandwidth": "sch_tbf sch_ingress cls_u32 act_mirred",
    "nftables": "nf_tables nft_chain_nat nft_masq nf_tables_bridge nf_tables_arp",
}
_LIMITS = ("ifb", "bandwidth")  # what only pods with a bandwidth need
_STRICT = 1


def features(facts: Facts) -> Iterator[Finding]:
    """veth, bridge, VXLAN, nftables with the very rules of the agent; for bandwidth: ifb, tbf.  And whether nft shows these rules."""
    for feature, reason in known(facts.refused).items():
        if feature == "nft":
            message = f"the program nft on this host cannot show the agent's rules: {reason}"
            yield Finding(Level.WARNING, message, "apt-get install nftables; nft --version")
            continue
        level = Level.WARNING if feature in _LIMITS else Level.PROBLEM
        loading = " ".join(f"modprobe {module};" for module in _MODULES[feature].split()).rstrip(";")
        yield Finding(level, f"this kernel ({facts.release}) refuses what {feature} takes: {reason}", loading)


def address(facts: Facts) -> Iterator[Finding]:
    """Which address the other nodes use, and that nobody else has it."""
    try:
        found = choice(facts)
    except ConfigError as e:
        yield Finding(Level.PROBLEM, str(e), e.hint or "")
        return
    chosen = {address.ip for address in found.addresses}
    for name, node in facts.cluster.cluster.nodes.items() if facts.cluster else ():
        for other in node.spec.addresses:
            if name != facts.settings.node_name and other.ip in chosen:
                message = f"node {name} says that {other.ip} is its address, and it is this node's ({found.reason})"
                hint = f"if {name} is this machine under an old name: netloom delete node {name}; else set nodeAddresses there"
                yield Finding(Level.PROBLEM, message, hint)


def forwarding(facts: Facts) -> Iterator[Finding]:
    """The agent switches it on; who switches it off again stops every pod."""
    switches, configured = known(facts.switches), known(facts.configured)
    if known(facts.read_only):
        message = "is read-only: the agent cannot set what pods need"
        yield Finding(Level.PROBLEM, message, "mount -o remount,rw /proc/sys", "/proc/sys")
    for version, switch in _FORWARDING.items():
        if facts.agent and switches.get(switch) == "0" and _serves(facts, version):
            yield Finding(Level.PROBLEM, "is 0 although the agent runs", f"sysctl -w {switch}=1", switch)
        value, path = configured.get(switch, ("", ""))
        if value == "0":
            message = f"sets {switch} to 0: every `sysctl --system` stops the pods' traffic until the agent sees it"
            yield Finding(Level.WARNING, message, f"sed -i '/{switch.replace('/', '.')}/d' {path}", path)


def reverse_path(facts: Facts) -> Iterator[Finding]:
    """Strict checks drop what comes in by another way than it would go out.  The agent loosens them on the uplink of the node's own
    address; on the others they stay, and harm only where there are several ways out."""
    switches = known(facts.switches)
    own_uplinks = _own_uplinks(facts)
    found = known(facts.uplinks).values()
    ways = [uplink for uplink in found if uplink.up and _reaches(uplink) and (uplink.default or uplink.name in own_uplinks)]
    for uplink in ways:
        if _effective(facts, uplink.name) != _STRICT:
            continue
        switch = f"net/ipv4/conf/{uplink.name}/rp_filter"
        is_own = uplink.name in own_uplinks
        if is_own and facts.agent:
            message = f"is {switches.get(switch)} although the agent runs: answers that come by another way are dropped"
            yield Finding(Level.PROBLEM, message, f"sysctl -w {switch}=2", switch)
        elif not is_own and len(ways) > 1:
            message = f"is strict, and there are {len(ways)} ways out: answers that come in by the other one are dropped"
            yield Finding(Level.WARNING, message, f"sysctl -w {switch}=2", switch)


def ipv6(facts: Facts) -> Iterator[Finding]:
    """Only where there are pools of it."""
    if not facts.cluster or not any(pool.spec.cidr.version == 6 for pool in facts.cluster.cluster.pools.values()):
        return
    switches = known(facts.switches)
    if "net/ipv6/conf/all/disable_ipv6" not in switches:
        message = "there is an IPv6 pool, and this kernel has no IPv6"
        yield Finding(
            Level.PROBLEM, message, "boot without ipv6.disable=1; or netloom get pools, and netloom delete ippool NAME"
        )
    for name in ("all", "default"):
        switch = f"net/ipv6/conf/{name}/disable_ipv6"
        if switches.get(switch) == "1":
            message = "there is an IPv6 pool, and IPv6 is switched off"
            yield Finding(Level.WARNING, message, f"sysctl -w {switch}=0", switch)


def _serves(facts: Facts, version: int) -> bool:
    return facts.agent is not None and any(block.cidr.version == version for block in facts.agent.blocks)


def _reaches(uplink: Uplink) -> bool:
    return any(a.version == 4 and not (a.is_link_local or a.is_loopback) for a in uplink.addresses)


def _effective(facts: Facts, name: str) -> int:
    """The stricter sense of `all` and the interface's own is the larger number (Documentation/networking/ip-sysctl.rst)."""
    switches = known(facts.switches)
    values = (switches.get(f"net/ipv4/conf/{each}/rp_filter", "0") for each in ("all", name))
    return max(int(value) for value in values)


def _own_uplinks(facts: Facts) -> frozenset[str]:
    """Those that hold the node's address."""
    addresses = {address.ip for address in own(facts)}
    return frozenset(name for name, uplink in known(facts.uplinks).items() if addresses & {a.ip for a in uplink.addresses})
