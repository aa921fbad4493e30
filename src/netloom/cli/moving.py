"""What commands have to know to say how far the cluster is on its way to another form."""

from __future__ import annotations

from netloom.config import Settings
from netloom.model.host import Host


def numbers(settings: Settings) -> Host:
    """Nobody's machine, with the numbers that nodes take where the cluster says none."""
    return Host("", "", vni=settings.vxlan_vni, port=settings.vxlan_port, udp_port=settings.udp_port)
