"""Forms: what the cluster wants of a pool's packets between nodes."""

from __future__ import annotations

from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot


def wanted(snapshot: Snapshot, host: Host, pool: IPPool) -> Form:
    """The numbers are the cluster's, else those of this node's own settings."""
    numbers, method = snapshot.configuration, pool.spec.encapsulation.method
    match method:
        case Method.VXLAN:
            return Form(method, numbers.vxlan_vni or host.vni, numbers.vxlan_port or host.port)
        case Method.UDP:
            return Form(method, port=numbers.udp_port or host.udp_port)
    return Form(method)
