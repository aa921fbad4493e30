"""How pods' packets cross from this host to others, as the cluster's pools want it; where no pool is known, in VXLAN."""

from __future__ import annotations

from collections.abc import Mapping

from netloom.agent.state import AgentState
from netloom.calc import forms as calc
from netloom.calc.encap import ENCAPS
from netloom.calc.rules import outer_of
from netloom.config import Settings
from netloom.ipam.audit import Records
from netloom.model.addresses import Interface
from netloom.model.desired import Carrier, Engine, Outer
from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot
from netloom.preflight.facts import Facts


def forms(settings: Settings, cluster: Snapshot | None) -> tuple[Form, ...]:
    """Of tunnels: what crosses as it is needs nothing of a host."""
    if cluster is None or not cluster.pools:
        return (Form(Method.VXLAN, settings.vxlan_vni, settings.vxlan_port),)
    return tuple(form for form in calc.wanted_of_all(cluster, _host(settings)) if form != calc.DIRECT)


def tunnels(facts: Facts) -> tuple[Form, ...]:
    return forms(facts.settings, facts.cluster.cluster if facts.cluster else None)


def outers(settings: Settings, cluster: Records | None, agent: AgentState | None) -> Mapping[Outer, Form]:
    """Of their packets, those that this host's own rules see; and whose they are."""
    found = forms(settings, cluster.cluster if cluster else None)
    host = _host(settings, agent)
    return {outer: form for form in found if (outer := outer_of(form, host))}


def overhead(form: Form, address: Interface) -> int:
    """Bytes around a pod's packet, with this address on the outside."""
    return ENCAPS[form.method].overhead(Host(node="", node_id="", addresses=(address,)))


def _host(settings: Settings, agent: AgentState | None = None) -> Host:
    engines = {Carrier[e.carrier]: Engine(e.engine) for e in agent.engines if e.engine} if agent else _engines(settings)
    return Host(
        node=settings.node_name,
        node_id="",
        vni=settings.vxlan_vni,
        port=settings.vxlan_port,
        udp_port=settings.udp_port,
        engines=engines,
    )


def _engines(settings: Settings) -> Mapping[Carrier, Engine]:
    """As settled by hand; else what nearly every host allows."""
    by_hand = {"forwarder": {Carrier.UDP: Engine.FORWARDER}, "kernel": {Carrier.IPIP: Engine.KERNEL}}
    return dict.fromkeys(Carrier, Engine.EBPF) | by_hand.get(settings.tunnel_engine, {})
