"""What the agent shows of the kernel's own table."""

from __future__ import annotations

import pytest

from netloom.agent.kernel_routes import page
from netloom.agent.state import decode_routes
from tests.kernel.iproute import run

pytestmark = pytest.mark.usefixtures("node")


def test_everybodys_routes_are_shown_with_who_put_them_there() -> None:
    run("ip link add eth0 type bridge")
    run("ip link set eth0 up")
    run("ip address add 192.0.2.1/24 dev eth0")
    run("ip route add 10.99.0.0/24 via 192.0.2.9 proto bird metric 600")
    run("ip route add 10.1.0.0/26 via 10.1.0.0 dev eth0 onlink proto 79 metric 70000")
    run("ip route add blackhole 10.1.1.0/26 proto 79 metric 4294967040")
    run("ip -6 route add blackhole fd00:1::/122 proto 79 metric 4294967040")
    found = {str(r.destination): (str(r.via), r.device, r.metric, r.protocol) for r in decode_routes(page()).routes}
    assert {key: found[key] for key in found if not key.startswith("fe80")} == {
        "192.0.2.0/24": ("None", "eth0", 0, 2),
        "10.99.0.0/24": ("192.0.2.9", "eth0", 600, 12),
        "10.1.0.0/26": ("10.1.0.0", "eth0", 70000, 79),
        "10.1.1.0/26": ("None", "", 4294967040, 79),
        "fd00:1::/122": ("None", "", 4294967040, 79),
    }
