"""An uninstall takes tunnels away with what is pinned for them, and what hangs on uplinks that are not ours."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.bpf import Way as Direction
from netloom.dataplane.bpf import attached
from netloom.footprint import kernel as footprint
from netloom.model.desired import Carrier
from netloom.tunnel.ebpf.store import Store
from tests.kernel.tunnel.ebpf.nodes import Way, agents, desired


def test_nothing_of_a_tunnel_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way, root = Way(Carrier.IPIP, 4), tmp_path / "bpf"
    monkeypatch.setattr(footprint, "Store", lambda: Store(root))
    with agents(way, root) as (a, _):
        a.make(desired(way, a.node))
        with netns.entered(a.node.netns):
            uplink = socket.if_nametoindex("up0")
            assert attached(a.kernel, uplink, Direction.ARRIVING)
            assert ("program/loom.ipip", "deleted") in list(footprint.remove(dry=True))
            assert attached(a.kernel, uplink, Direction.ARRIVING)
            assert ("program/loom.ipip", "deleted") in list(footprint.remove())
            assert not attached(a.kernel, uplink, Direction.ARRIVING)
        assert "loom" not in a.run("ip link")
        assert [path.name for path in (root / "netloom").iterdir()] == []
