from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from netloom.agent.bgp_state import BgpDocument, BgpRoute, BgpRoutes, BgpText
from netloom.agent.state import BgpState, FamilyState, SessionState, encode
from tests.pure.cli.conftest import Run, answering
from tests.pure.cli.samples import STATE

SINCE = datetime.now(UTC) - timedelta(hours=3, minutes=5)
UP = SessionState(
    name="peer_tor",
    origin="BGPPeer tor",
    address=ip_address("192.0.2.254"),
    remote_as=65001,
    local_as=64512,
    state="Established",
    since=SINCE,
    families={"ipv4": FamilyState(up=True, imported=12, exported=3), "ipv6": FamilyState()},
    bfd="Up",
)
DOWN = SessionState(
    name="mesh_b",
    origin="Node b\x1b[2J",
    address=ip_address("192.0.2.2"),
    remote_as=64512,
    local_as=64513,
    state="Active",
    problem="refused: they expect another AS, we send 64513",
)
WELL = BgpState(wanted=True, bird="2.0.12", since=SINCE, socket="/nowhere/bird.ctl", sessions=(UP,))
ROUTES = BgpRoutes(
    complete=False,
    routes=(
        BgpRoute(
            destination=ip_network("10.244.2.0/26"),
            kind="unicast",
            source="peer_tor",
            origin="BGPPeer tor",
            best=True,
            via=(ip_address("192.0.2.254"),),
            device="eth0",
            path="65001 65002",
            communities=("65535:0",),
            local_preference=100,
        ),
        BgpRoute(destination=ip_network("10.244.1.0/26"), kind="blackhole", source="own4", best=True),
    ),
)

Answer = Callable[[BgpState], None]


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Answer]:
    """Makes the agent say this of BIRD."""
    with ExitStack() as stack:

        def answer(bgp: BgpState) -> None:
            pages = {
                "/v1/bgp": BgpDocument(node="a", bgp=bgp),
                "/v1/bgp/config": BgpText(path="/x/bird.conf", wanted="a;\nc;\n", written="a;\nb;\n"),
                "/v1/bgp/routes": ROUTES,
                "/v1/bgp/routes?prefix=10.244.2.9/32": ROUTES,
                "/v1/bgp/routes?prefix=10.9.0.0/16": BgpRoutes(),
            }
            encoded = {path: msgspec.json.encode(page, enc_hook=str) for path, page in pages.items()}
            state = encode(msgspec.structs.replace(STATE, bgp=bgp))
            stack.enter_context(answering(tmp_path / "netloom.sock", state, others=encoded))

        yield answer


def screen(text: str) -> str:
    return re.sub(r"\b\d+h\d+m\b", "3h5m", text)


def test_peers_are_shown_with_what_is_wrong(run: Run, bird: Answer) -> None:
    bird(msgspec.structs.replace(WELL, sessions=(UP, DOWN)))
    result = run("bgp", "peers")
    assert result.exit_code == 1
    assert screen(result.stdout) == dedent(
        """\
        PEER            ADDRESS       AS      STATE         SINCE   IN   OUT   BFD   NOTE
        BGPPeer tor     192.0.2.254   65001   Established   3h5m    12   3     Up    -
        Node b\\x1b[2J   192.0.2.2     64512   Active        -       0    0     -     refused: they expect another AS, we send 64513
        """
    )


def test_wide_has_families_and_birds_names(run: Run, bird: Answer) -> None:
    bird(WELL)
    result = run("bgp", "peers", "-o", "wide")
    assert result.exit_code == 0
    assert "peer_tor   64512      179    ipv4 12/3,ipv6 down" in result.stdout


def test_peers_as_json(run: Run, bird: Answer) -> None:
    bird(WELL)
    (item,) = json.loads(run("bgp", "peers", "-o", "json").stdout)["items"]
    assert (item["name"], item["remoteAS"], item["families"]["ipv4"]["imported"]) == ("peer_tor", 65001, 12)


def test_a_bird_that_is_away_is_not_known_to_be_well(run: Run, bird: Answer) -> None:
    bird(msgspec.structs.replace(WELL, bird="", away="BIRD does not answer on /x: it stands still"))
    result = run("bgp", "peers")
    assert result.exit_code == 3
    assert "stands still" in result.stderr


def test_bgp_that_is_off_is_no_fault(run: Run, bird: Answer) -> None:
    bird(BgpState())
    result = run("bgp", "peers")
    assert result.exit_code == 0
    assert "BGP is off" in result.stderr


def test_routes_with_who_told_them(run: Run, bird: Answer) -> None:
    bird(WELL)
    result = run("bgp", "routes")
    assert result.stdout == dedent(
        """\
        DESTINATION     VIA           DEVICE   FROM          BEST   AS PATH       COMMUNITIES
        10.244.2.0/26   192.0.2.254   eth0     BGPPeer tor   *      65001 65002   65535:0
        10.244.1.0/26   blackhole     -        own4          *      -             -
        """
    )
    assert "these are the first 2" in result.stderr
    assert run("bgp", "routes", "10.244.2.9").exit_code == 0


def test_a_route_that_nobody_told(run: Run, bird: Answer) -> None:
    bird(WELL)
    result = run("bgp", "routes", "10.9.0.0/16")
    assert (result.exit_code, "BIRD knows no route to 10.9.0.0/16" in result.stderr) == (1, True)


@pytest.mark.parametrize("prefix", ["10.9.0.1/16", "ten", "10.9.0.0/16; down", "fe80::1%eth0"])
def test_what_is_no_prefix_is_refused(run: Run, bird: Answer, prefix: str) -> None:
    bird(WELL)
    assert run("bgp", "routes", prefix).exit_code == 2


def test_a_difference_is_shown(run: Run, bird: Answer) -> None:
    bird(WELL)
    result = run("bgp", "diff")
    assert result.exit_code == 1
    assert result.stdout == "--- /x/bird.conf\n+++ wanted\n@@ -1,2 +1,2 @@\n a;\n-b;\n+c;\n"
    assert run("bgp", "render").stdout == "a;\nc;\n"


def test_what_cannot_be_rendered_is_said(run: Run, tmp_path: Path) -> None:
    text = BgpText(path="/x/bird.conf", refused="BGPPeer tor: there is no BGPFilter 'in'")
    page = msgspec.json.encode(text, enc_hook=str)
    with answering(tmp_path / "netloom.sock", encode(STATE), others={"/v1/bgp/config": page}):
        for command in ("render", "diff"):
            result = run("bgp", command)
            assert (result.exit_code, "there is no BGPFilter 'in'" in result.stderr) == (2, True)


def test_a_peer_to_reset_has_to_be_one(run: Run, bird: Answer) -> None:
    twin = msgspec.structs.replace(UP, name="peer_tor_6", address=ip_address("2001:db8::fe"))
    bird(msgspec.structs.replace(WELL, sessions=(UP, twin)))
    assert "there is no peer 'nobody' here" in run("bgp", "reset", "nobody").stderr
    result = run("bgp", "reset", "tor")
    assert (result.exit_code, "more than one session: peer_tor, peer_tor_6" in result.stderr) == (2, True)
    assert run("bgp", "reset", "peer_tor").exit_code == 3, "BIRD's socket is not there"


def test_the_status_has_a_line_of_it(run: Run, bird: Answer) -> None:
    bird(msgspec.structs.replace(WELL, sessions=(UP, DOWN), draining=True))
    assert "BGP by BIRD 2.0.12: 1 of 2 sessions up, draining" in run("status").stdout


def test_the_status_says_how_long_bird_is_away(run: Run, bird: Answer) -> None:
    bird(msgspec.structs.replace(WELL, away="BIRD does not answer"))
    assert "BGP: BIRD away for 3h5m; routes that it has made stay" in screen(run("status").stdout)
