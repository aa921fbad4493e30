"""Forms: what two nodes have to agree on before one may send the other a pod's packet.

A pool names a method (`encapsulation: VXLAN`); with the numbers that both ends must share it is a form, `VXLAN:4096:4789`.  Nodes
tell each other forms as text, in their Node objects.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import NamedTuple


class Method(enum.Enum):
    """How a packet crosses from node to node.  NONE: as it is."""

    NONE = "None"
    VXLAN = "VXLAN"
    IPIP = "IPIP"
    UDP = "UDP"


class Form(NamedTuple):
    """`vni`: VXLAN's.  `port`: the UDP port of VXLAN or UDP; 0 where there is none."""

    method: Method
    vni: int = 0
    port: int = 0

    def __str__(self) -> str:
        match self.method:
            case Method.VXLAN:
                return f"VXLAN:{self.vni}:{self.port}"
            case Method.UDP:
                return f"UDP:{self.port}"
        return str(self.method.value)


class Use(NamedTuple):
    """How one node sends to another.  `form`: in this one; None: not at all.  `next`: in that one, once it is published that it
    does.  `why`: what the wanted form waits for; empty where it is used.  `bird`: BIRD's routes lead there, the agent has none."""

    form: Form | None
    next: Form | None
    why: str = ""
    bird: bool = False


_TEXT = re.compile(r"(?P<plain>None|IPIP)|VXLAN:(?P<vni>\d{1,8}):(?P<vxlan>\d{1,5})|UDP:(?P<udp>\d{1,5})", re.ASCII)


def parse_form(text: str) -> Form:
    """The reverse of `str`.  Raises ValueError."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no form; forms look like None, IPIP, VXLAN:4096:4789, UDP:8285")
    if found["plain"]:
        return Form(Method(found["plain"]))
    if found["udp"]:
        return Form(Method.UDP, port=check_port(int(found["udp"]), "UDP"))
    return Form(Method.VXLAN, check_vni(int(found["vni"]), "VNI"), check_port(int(found["vxlan"]), "port"))


@functools.lru_cache(1024)
def check_form(text: str, path: str) -> None:
    """Thousands of nodes say the same few."""
    try:
        parse_form(text)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def check_vni(vni: int, path: str) -> int:
    if not 1 <= vni < 1 << 24:
        raise ValueError(f"{path}: {vni} is out of range; 1 to 16777215")
    return vni


def check_port(port: int, path: str) -> int:
    if not 1 <= port < 1 << 16:
        raise ValueError(f"{path}: {port} is out of range; 1 to 65535")
    return port


def check_mtu(mtu: int, path: str) -> int:
    """0: to be computed."""
    if mtu and not 576 <= mtu <= 65535:
        raise ValueError(f"{path}: {mtu} is out of range; 576 to 65535, or 0 to compute it")
    return mtu
