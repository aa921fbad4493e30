"""BIRD's answers, as 2.0.12 has given them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from netloom.bgp import status
from netloom.bgp.control import Line

PROTOCOLS = """\
2002-Name       Proto      Table      State  Since         Info
1002-mesh_b     BGP        ---        up     2026-11-23 16:40:13  Established   \n\
1006-  BGP state:          Established
     Neighbor address: 192.0.2.2
     Neighbor AS:      64512
     Local AS:         64513
     Hold timer:       27.030/30
   Channel ipv4
     State:          UP
     Routes:         12 imported, 1 filtered, 3 exported, 12 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Import updates:              1          0          0          0          1
     BGP Next hop:   192.0.2.1
   Channel ipv6
     State:          DOWN

1002-own4       Static     master4    up     2026-11-23 16:40:12  \n\
1006-  Channel ipv4
     State:          UP
     Routes:         5 imported, 0 exported, 5 preferred

1002-peer_tor   BGP        ---        start  2026-11-23 16:40:14  Active        Received: Bad peer AS
1006-  BGP state:          Active
     Neighbor address: fd00::2%eth0
     Neighbor AS:      65000
     Local AS:         64512
     Neighbor graceful restart active
     Last error:       Received: Bad peer AS
0000 \n"""


def lines(text: str) -> Iterable[Line]:
    code = 0
    for line in text.splitlines():
        if line[:4].isdigit():
            code = int(line[:4])
            yield Line(code, line[5:])
        else:
            yield Line(code, line[1:])


def test_sessions_are_read_and_other_protocols_are_not() -> None:
    found = status.peers(lines(PROTOCOLS))
    assert list(found) == ["mesh_b", "peer_tor"]
    mesh, tor = found.values()
    assert mesh.established and mesh.error == "" and mesh.hold_time == 30
    assert (mesh.address, mesh.remote_as, mesh.local_as) == ("192.0.2.2", 64512, 64513)
    assert mesh.channels == {4: status.Channel(True, 12, 1, 3, "192.0.2.1"), 6: status.Channel()}
    assert (tor.state, tor.error, tor.address, tor.restarting) == ("Active", "Received: Bad peer AS", "fd00::2", True)


def test_times_are_of_this_machines_zone() -> None:
    mesh = status.peers(lines(PROTOCOLS))["mesh_b"]
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mesh.since)) == "2026-11-23 16:40:13"


def test_what_is_not_understood_is_left_out() -> None:
    odd = "1002-mesh_b BGP --- up yesterday Established\n1006-  Neighbor AS: many\n   Channel vpn4\n     Routes: lots\n1002-\n0000 "
    (found,) = status.peers(lines(odd)).values()
    assert (found.name, found.since, found.remote_as) == ("mesh_b", 0.0, 0)


def test_the_daemons_own_status() -> None:
    text = (
        "1000-BIRD 2.0.12\n1011-Router ID is 192.0.2.1\n Last reboot on 2026-11-23 16:40:12.315\n0013 Daemon is up and running"
    )
    found = status.daemon(lines(text))
    assert (found.version, found.router_id) == ("2.0.12", "192.0.2.1")
    assert found.started > 0


def test_bfd_sessions_by_address() -> None:
    text = """\
1020-detection:
 IP address                Interface  State      Since         Interval  Timeout
 192.0.2.2                 up0        Up         2026-11-23 16:40:13    0.300    0.900
 fd00:2::2                 ---        Down       2026-11-23 16:40:13    1.000    0.000
0000 """
    assert status.bfd(lines(text)) == {"192.0.2.2": "Up", "fd00:2::2": "Down"}


ROUTES = """\
1007-Table master4:
 10.244.2.0/26        unicast [mesh_b 16:40:13.123] * (100) [AS65000i]
 \tvia 192.0.2.2 on up0
1008-\tType: BGP univ
1012-\tBGP.origin: IGP
 \tBGP.as_path: 65000 65001
 \tBGP.local_pref: 100
 \tBGP.community: (65535,0) (1,2)
 \tBGP.large_community: (1, 2, 3)
1007-                     unicast [mesh_c 16:40:13.166 from 192.0.2.3] (100) [i]
 \tvia 192.0.2.3 on up0 weight 1
 \tvia 192.0.2.4 on up0 weight 1
1008-\tType: BGP univ
1007-10.244.1.0/26        blackhole [own4 16:40:12.321] ! (200)
0000 """


def test_routes_with_what_was_said_of_them() -> None:
    found, complete = status.routes(lines(ROUTES), 10)
    assert complete
    first, second, third = found
    assert (first.destination, first.protocol, first.best, first.via, first.device) == (
        "10.244.2.0/26",
        "mesh_b",
        True,
        ("192.0.2.2",),
        "up0",
    )
    assert (first.path, first.preference, first.communities) == ("65000 65001", 100, ("65535:0", "1:2", "1:2:3"))
    assert (second.destination, second.best, second.via) == ("10.244.2.0/26", False, ("192.0.2.3", "192.0.2.4"))
    assert (third.kind, third.protocol, third.via, third.refused) == ("blackhole", "own4", (), True)


def test_no_more_routes_than_asked_for() -> None:
    found, complete = status.routes(lines(ROUTES), 2)
    assert len(found) == 2 and not complete
