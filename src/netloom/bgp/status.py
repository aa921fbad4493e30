"""Status: BIRD's answers, read.  Text in, values out; what is not understood is left out, never guessed.

`show protocols all` has a line for each protocol, and below it what it knows:

    1002-mesh_b     BGP        ---        start  2026-11-23 16:40:00  Active        Received: Bad peer AS
    1006-  BGP state:          Active
             Neighbor address: 10.0.0.2
             Last error:       Received: Bad peer AS
           Channel ipv4
             State:          DOWN
             Routes:         12 imported, 1 filtered, 3 exported, 12 preferred
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from netloom.bgp.control import Line

_PROTOCOL, _DETAIL, _ROUTE_CODES, _BFD = 1002, 1006, (1007, 1008, 1012), 1020
_FIRST = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\S+)\s*(.*)")
_KEYS = frozenset(
    (
        *("Message", "BGP state", "Neighbor address", "Neighbor AS", "Local AS", "Last error", "Hold timer"),
        *("State", "Routes", "BGP Next hop", "Neighbor graceful restart active"),
    )
)
_CHANNEL = re.compile(r"\s+Channel (\w+)")
_COUNT = re.compile(r"(\d+) (imported|filtered|exported|preferred)")
_TIMER = re.compile(r"[\d.]+/(\d+)")
_TIME = "%Y-%m-%d %H:%M:%S"
ESTABLISHED = "Established"
_LEFT = frozenset(
    (
        *("Error: BFD session down", "Error: Link down", "Error: Neighbor lost", "BGP Error: Hold timer expired"),
        *("Received: Administrative shutdown", "Received: Administrative reset", "Received: Peer de-configured"),
    )
)


@dataclass(frozen=True, slots=True)
class Channel:
    """Of one family.  Counts of routes; `next_hop`: what the peer is told to send to."""

    up: bool = False
    imported: int = 0
    filtered: int = 0
    exported: int = 0
    next_hop: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A BGP session as BIRD sees it.  `since`: seconds of the epoch, of its last change between up and down; 0 for unknown.
    `hold_time`: as agreed; 0 without a session.  `message`: what the peer's administrator has to say of its end (RFC 9003); theirs, so
    anything that can be printed."""

    name: str
    state: str
    since: float = 0.0
    error: str = ""
    message: str = ""
    address: str = ""
    remote_as: int = 0
    local_as: int = 0
    hold_time: int = 0
    restarting: bool = False
    channels: Mapping[int, Channel] = field(default_factory=dict)

    @property
    def established(self) -> bool:
        return self.state == ESTABLISHED

    @property
    def left(self) -> bool:
        """Whether it ended by what became of the peer, or of the way there."""
        return self.error.startswith("Socket: ") or self.error in _LEFT


def peers(lines: Iterable[Line]) -> dict[str, Peer]:
    """Out of `show protocols all`, the BGP ones by name."""
    found: dict[str, Peer] = {}
    name, channel = "", 0
    for code, text in lines:
        if code == _PROTOCOL:
            name, channel = "", 0
            if (first := _FIRST.match(text)) and first[2] == "BGP":
                name = first[1]
                found[name] = Peer(name, first[6].split("  ")[0].strip() or first[4], since=_seconds(first[5]))
        elif code == _DETAIL and name:
            if text.startswith("  Channel ") and (begun := _CHANNEL.match(text)):
                channel = {"ipv4": 4, "ipv6": 6}.get(begun[1], 0)
            else:
                key, _, value = text.partition(":")
                if (key := key.strip()) in _KEYS:
                    found[name] = _told(found[name], channel, key, value.strip())
    return found


def _told(peer: Peer, channel: int, key: str, value: str) -> Peer:
    if channel:
        before = peer.channels.get(channel, Channel())
        return replace(peer, channels={**peer.channels, channel: _of_channel(before, key, value)})
    match key:
        case "BGP state":
            return replace(peer, state=value)
        case "Neighbor address":
            return replace(peer, address=value.partition("%")[0])
        case "Neighbor AS":
            return replace(peer, remote_as=_number(value))
        case "Local AS":
            return replace(peer, local_as=_number(value))
        case "Message":
            return replace(peer, message=value)
        case "Last error":
            return replace(peer, error=value)
        case "Neighbor graceful restart active":
            return replace(peer, restarting=True)
        case "Hold timer":
            timer = _TIMER.match(value)
            return replace(peer, hold_time=int(timer[1]) if timer else 0)
    return peer


def _of_channel(channel: Channel, key: str, value: str) -> Channel:
    match key:
        case "State":
            return replace(channel, up=value == "UP")
        case "Routes":
            counts = {word: int(number) for number, word in _COUNT.findall(value)}
            return replace(
                channel,
                imported=counts.get("imported", 0),
                filtered=counts.get("filtered", 0),
                exported=counts.get("exported", 0),
            )
        case "BGP Next hop":
            return replace(channel, next_hop=value)
    return channel


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _seconds(text: str) -> float:
    """BIRD says the time of this machine's own zone."""
    try:
        return time.mktime(time.strptime(text, _TIME))
    except (ValueError, OverflowError):
        return 0.0


@dataclass(frozen=True, slots=True)
class Daemon:
    version: str
    router_id: str = ""
    started: float = 0.0


def daemon(lines: Iterable[Line]) -> Daemon:
    """Out of `show status`."""
    found = Daemon("")
    for _, text in lines:
        words = text.strip()
        if words.startswith("BIRD "):
            found = replace(found, version=words.split()[1])
        elif words.startswith("Router ID is "):
            found = replace(found, router_id=words.removeprefix("Router ID is "))
        elif words.startswith("Last reboot on "):
            found = replace(found, started=_seconds(words.removeprefix("Last reboot on ").partition(".")[0]))
    return found


def bfd(lines: Iterable[Line]) -> dict[str, str]:
    """Out of `show bfd sessions`: state by the peer's address."""
    found: dict[str, str] = {}
    for code, text in lines:
        words = text.split()
        if code == _BFD and len(words) >= 5 and (words[0][:1].isdigit() or ":" in words[0][1:]) and words[2].isalpha():
            found[words[0]] = words[2]
    return found


@dataclass(frozen=True, slots=True)
class BirdRoute:
    """A route that BIRD knows.  `best`: the one that it would use; `refused`: the kernel does not take it.  `protocol`: who told it, a
    session's name or one of BIRD's own protocols.  `via` and `device` empty: it leads nowhere (`kind`: blackhole, unreachable)."""

    destination: str
    kind: str
    protocol: str
    best: bool = False
    refused: bool = False
    via: tuple[str, ...] = ()
    device: str = ""
    path: str = ""
    communities: tuple[str, ...] = ()
    preference: int = 0


_DESTINATION = re.compile(r"(\S+)?\s+(unicast|blackhole|unreachable|prohibited)\s+\[(\S+) [^\]]*\](\s[*!])?\s*\((\d+)[^)]*\)")
_VIA = re.compile(r"\s+via (\S+) on (\S+)")
_DEVICE = re.compile(r"\s+dev (\S+)")
_ATTRIBUTE = re.compile(r"\s+(?:BGP\.)?(?:bgp_)?(as_path|path|community|large_community|local_pref): ?(.*)")


def routes(lines: Iterable[Line], most: int) -> tuple[list[BirdRoute], bool]:
    """Out of `show route … all`, the first `most`; and whether those are all."""
    found: list[BirdRoute] = []
    destination = ""
    for code, text in lines:
        if code not in _ROUTE_CODES:
            continue
        if code == _ROUTE_CODES[0] and (begun := _DESTINATION.match(text)):
            destination = begun[1] or destination
            if len(found) == most:
                return found, False
            mark = (begun[4] or "").strip()
            found.append(BirdRoute(destination, begun[2], begun[3], best=bool(mark), refused=mark == "!"))
        elif found and (hop := _VIA.match(text)):
            found[-1] = replace(found[-1], via=(*found[-1].via, hop[1]), device=hop[2])
        elif found and (device := _DEVICE.match(text)):
            found[-1] = replace(found[-1], device=device[1])
        elif found and (attribute := _ATTRIBUTE.match(text)):
            found[-1] = _with(found[-1], attribute[1], attribute[2].strip())
    return found, True


def _with(route: BirdRoute, key: str, value: str) -> BirdRoute:
    match key:
        case "as_path" | "path":
            return replace(route, path=value)
        case "local_pref":
            return replace(route, preference=_number(value))
    words = re.findall(r"\(([\d, ]+)\)", value)
    return replace(route, communities=(*route.communities, *(":".join(re.findall(r"\d+", word)) for word in words)))
