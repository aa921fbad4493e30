"""The agent's side of BIRD, where there is no BIRD: whose file may be written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netloom.agent.background import Background
from netloom.agent.routing import Routing, View
from netloom.agent.standby import Standby
from netloom.agent.troubles import Troubles
from netloom.bgp.rendering import render
from netloom.config import Settings
from netloom.dataplane.netlink import Netlink
from netloom.model.routing import BgpConfig
from tests.bgp_configs import FABRIC, PASSWORD

SOMEBODYS = 'router id 192.0.2.1;\nprotocol bgp mine { neighbor 192.0.2.2 as 1; local as 2; password "s3cret"; }\n'
EMPTY = render(None, {}, "n1")


def after(folder: Path, wanted: BgpConfig | None) -> View:
    """A pass has wanted this."""
    settings = Settings(
        node_name="n1",
        state_dir=str(folder),
        run_dir=str(folder),
        bird_config=str(folder / "bird.conf"),
        bird_socket=str(folder / "bird.ctl"),
        bird_path="/bin/true",
    )

    async def run() -> View:
        troubles, kernel = Troubles(), Netlink(buffer=0)
        routing = Routing(settings, Background(troubles), troubles, Standby(kernel, lambda: None), lambda: True)
        routing.passed(wanted, {}, complete=True)
        while routing._busy:
            await asyncio.sleep(0.01)
        routing.stop()
        kernel.close()
        return routing.view

    return asyncio.run(run())


def test_where_bgp_is_off_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(SOMEBODYS)
    assert not after(tmp_path, None).used
    assert file.read_text() == SOMEBODYS
    assert [path.name for path in tmp_path.iterdir()] == ["bird.conf"]


@pytest.mark.parametrize("before", [render(FABRIC, {PASSWORD: "x"}), EMPTY])
def test_where_bgp_is_off_our_own_file_has_no_session(tmp_path: Path, before: str) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(before)
    after(tmp_path, None)
    assert file.read_text() == EMPTY


def test_where_it_was_never_on_there_is_no_file(tmp_path: Path) -> None:
    after(tmp_path, None)
    assert not list(tmp_path.iterdir())
