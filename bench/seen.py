"""What a packet meets on its way through a machine, as iproute2, ethtool's ioctls and nft show it.

What is different for every pod (indexes, addresses, names) is left out, so that what two machines show can be compared.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
from collections.abc import Collection, Mapping
from typing import Any

from netloom.dataplane import netns

Link = dict[str, Any]  # Any: JSON of iproute2

OWN_HOOKS = {"arp input 0", "bridge prerouting -300", "inet input 0", "inet prerouting -300", "inet forward 0"}
"""What is checked that others do not look at: who sends a packet, by which tunnel it came, and from which network."""


def of_pod(pod: int, place: int) -> dict[str, Any]:
    """From the pod, and from its host's end of the link."""
    with netns.entered(pod):
        inside, features_inside = links(), features("eth0")
        routes = _json("ip", "-j", "route")
    [eth0] = [link for link in inside if link["ifname"] == "eth0"]
    with netns.entered(place):
        by_index = {str(link["ifindex"]): link for link in links()}
        port = by_index[str(eth0["link_index"])]
        bridge = next((link for link in by_index.values() if link["ifname"] == port.get("master")), None)
        return {
            "devices in the pod": [_kind(link) for link in inside],
            "eth0": _attributes(eth0),
            "eth0's offloads": features_inside,
            "routes in the pod": [(route["dst"] == "default", "gateway" in route, route.get("scope")) for route in routes],
            "its other end": _attributes(port),
            "its other end's offloads": features(str(port["ifname"])),
            "hairpin": port.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"),
            "bridge": bridge and _attributes(bridge),
            "bridge's offloads": bridge and features(str(bridge["ifname"])),
            "hooks": hooks(),
        }


def of_way(place: int, towards: str) -> dict[str, Any]:
    """From a node to what has the address `towards`, on another one: the route, the devices below it, neighbours and FDB."""
    with netns.entered(place):
        [route] = _json("ip", "-j", "route", "get", towards)
        by_name = {link["ifname"]: link for link in links()}
        device = by_name[route["dev"]]
        below = _data(device).get("link")
        return {
            "route": (route["dev"] == "eth0", "gateway" in route, route.get("flags")),
            "leads by": _attributes(device) | {key: _data(device).get(key) for key in _OF_A_TUNNEL},
            "its offloads": features(str(device["ifname"])),
            "below it": below,
            "uplink": _attributes(by_name["eth0"]),
            "uplink's offloads": features("eth0"),
            "neighbours": sorted(str(one["state"]) for one in _json("ip", "-j", "neigh", "show", "dev", str(device["ifname"]))),
            "FDB": [one["state"] for one in _json("bridge", "-j", "fdb", "show", "dev", str(device["ifname"])) if "dst" in one],
            "reverse path": [_setting(f"net/ipv4/conf/{name}/rp_filter") for name in ("all", "eth0", str(device["ifname"]))],
        }


_OF_A_TUNNEL = (
    "port",
    "port_range",
    "ttl",
    "learning",
    "udp_csum",
    "udp_zero_csum6_tx",
    "udp_zero_csum6_rx",
    "ageing",
    "external",
)


def _setting(path: str) -> str:
    with open(f"/proc/sys/{path}", encoding="ascii") as file:
        return file.read().strip()


def links() -> list[Link]:
    return _json("ip", "-d", "-j", "link")


def _json(*command: str) -> list[Link]:
    found: list[Link] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout or "[]")
    return found


def _data(link: Link) -> dict[str, Any]:
    found: dict[str, Any] = link.get("linkinfo", {}).get("info_data", {})
    return found


def _kind(link: Link) -> object:
    info = link.get("linkinfo")
    return info.get("info_kind", link["link_type"]) if isinstance(info, dict) else link["link_type"]


def _attributes(link: Link) -> dict[str, object]:
    names = ("mtu", "qdisc", "gso_max_size", "gso_max_segs", "tso_max_size", "tso_max_segs", "gro_max_size")
    return {"kind": _kind(link)} | {name: link.get(name) for name in names}


# linux/ethtool.h
_SIOCETHTOOL, _GSSET_INFO, _GSTRINGS, _GFEATURES, _SFEATURES, _SS_FEATURES = 0x8946, 0x37, 0x1B, 0x3A, 0x3B, 4
_NAME = 32


def features(interface: str) -> tuple[str, ...]:
    """Those that are on, as `ethtool -k` lists them; in the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        names = _names(control, interface)
        words = -(-len(names) // 32)
        state = _ethtool(control, interface, struct.pack("=II", _GFEATURES, words) + bytes(16 * words))
    active = [struct.unpack_from("=I", state, 8 + 16 * word + 8)[0] for word in range(words)]
    return tuple(name for i, name in enumerate(names) if active[i // 32] >> i % 32 & 1)


def switch(interface: str, wanted: Mapping[str, bool]) -> None:
    """Features on and off, as `ethtool -K`; in the calling thread's namespace.  Those that the kernel does not have are passed over."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        names = _names(control, interface)
        blocks = [[0, 0] for _ in range(-(-len(names) // 32))]
        for i, name in enumerate(names):
            if name in wanted:
                blocks[i // 32][0] |= 1 << i % 32
                blocks[i // 32][1] |= wanted[name] << i % 32
        request = struct.pack("=II", _SFEATURES, len(blocks)) + b"".join(struct.pack("=II", *block) for block in blocks)
        _ethtool(control, interface, request)


def _names(control: socket.socket, interface: str) -> list[str]:
    known = _ethtool(control, interface, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    (count,) = struct.unpack_from("=I", known, 16)
    text = _ethtool(control, interface, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(_NAME * count))[12:]
    return [text[i * _NAME : (i + 1) * _NAME].rstrip(b"\0").decode() for i in range(count)]


def _ethtool(control: socket.socket, interface: str, request: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(buffer)))
    return buffer.raw


def hooks() -> set[str]:
    """Base chains: family, hook, priority.  In the calling thread's namespace."""
    ruleset = json.loads(subprocess.run(["nft", "-j", "list", "chains"], capture_output=True, text=True, check=True).stdout)
    chains = (entry["chain"] for entry in ruleset["nftables"] if "chain" in entry)
    return {f"{c['family']} {c['hook']} {c['prio']}" for c in chains if "hook" in c}


def compare(names: tuple[str, str], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Prints what differs; whether it is only our own hooks."""
    print(f"\n| what a packet meets | {names[0]} | {names[1]} |\n|---|---|---|")
    for what, value in ours.items():
        print(f"| {what} | same | same |" if value == theirs[what] else f"| {what} | {value} | {theirs[what]} |")
    same = all(value == theirs[what] for what, value in ours.items() if what != "hooks")
    return same and _others(ours["hooks"]) == _others(theirs["hooks"])


def _others(found: Collection[str]) -> set[str]:
    """Less our own.  A chain of `inet` sees what one of `ip` sees, and srcnat - 5 comes where srcnat would."""
    return {hook.partition(" ")[2].replace("postrouting 95", "postrouting 100") for hook in set(found) - OWN_HOOKS}
