"""Links: requests that make, change and remove them, and what a dump says of them (linux/if_link.h, linux/rtnetlink.h).

The kernel lets the maker choose the index of a new link, so what else the link needs can ride in the same send: a veth and
its `set_link` in one `transact`.  Three things it does not take together: IFF_UP on a veth's peer while it is made (the peer
comes up from inside its own namespace), the alias, and the IPv6 address generation mode; those are for `set_link`.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from netloom.dataplane.netlink.wire import (
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    attributes,
    message,
    nested,
    text,
    to_int,
    to_text,
    u8,
    u32,
)
from netloom.model.addresses import Address, Mac, mac_bytes, mac_text

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
IFF_UP, IFF_NOARP = 0x1, 0x80
IFINFO = struct.Struct("=BxHiII")  # family, ARP type, index, flags, mask of flags to change

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_OPERSTATE, IF_OPER_UP = 16, 6
IFLA_PROTINFO, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP = 12, 18, 20, 26, 27
IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_LINK_NETNSID = 28, 29, 31, 32, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA = 1, 2, 5
VETH_INFO_PEER = 1
IFLA_BRPORT_MODE = 4
IFLA_INET_CONF = 1
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
RTEXT_FILTER_SKIP_STATS = 1 << 3

IFLA_BR_FORWARD_DELAY, IFLA_BR_MULTI_BOOLOPT, BR_NO_LINK_LOCAL_LEARNING = 1, 46, 1 << 0
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING = 1, 3, 4, 7
IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6, IFLA_VXLAN_UDP_CSUM = 15, 17, 18
IFLA_VXLAN_UDP_ZERO_CSUM6_RX = 20

IFLA_IPTUN_LINK, IFLA_IPTUN_LOCAL, IFLA_IPTUN_PMTUDISC = 1, 2, 10
IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS, IFLA_XDP_PROG_ID, IFLA_XDP_EXPECTED_FD = 43, 1, 3, 4, 8
XDP_IF_NONE, XDP_DRIVER, XDP_REPLACE = 1 << 0, 1 << 2, 1 << 4  # XDP_FLAGS_*

IPV4_DEVCONF = {  # linux/ip.h; what `set_link(ipv4=...)` takes
    "forwarding": 1,
    "proxy_arp": 3,
    "accept_redirects": 4,
    "send_redirects": 6,
    "rp_filter": 8,
    "arp_announce": 18,
    "arp_ignore": 19,
    "arp_notify": 22,
    "accept_local": 23,
    "route_localnet": 26,
}

_PORT = struct.Struct("!H")
_FD = struct.Struct("=i")
_BRIDGE_OPTIONS = struct.Struct("=II")  # struct br_boolopt_multi: values, mask of values to change
_ONE_QUEUE = u32(IFLA_NUM_TX_QUEUES, 1) + u32(IFLA_NUM_RX_QUEUES, 1)
_NOT_GULLIBLE = attribute(IFLA_BR_MULTI_BOOLOPT, _BRIDGE_OPTIONS.pack(BR_NO_LINK_LOCAL_LEARNING, BR_NO_LINK_LOCAL_LEARNING))


@dataclass(frozen=True, slots=True)
class VxlanData:
    """`local` None: any.  `parent` 0: none."""

    vni: int
    port: int
    local: Address | None
    parent: int
    learning: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A link as the kernel has it.  `kind` is empty for hardware; `master` and `peer` are indexes, 0 for none.  `peer` counts in the
    peer's namespace, whose number here is `peer_nsid`, -1 if it is this one.  `generates`: the kernel gives it a link-local address.
    `hairpin`: of a bridge's port.  `gullible`: a bridge that learns senders also from frames that no rule sees, see `new_bridge`.
    `resolves`: it asks for its neighbours' MACs.  `ipip`: the outer source of the kernel's own tunnel; such a device has it for a MAC,
    too; `ipip_parent`: its interface's index, 0 for none.  `xdp`: the kernel's number of the program that sees packets first, 0 for
    none."""

    index: int
    name: str
    kind: str
    mac: Mac
    mtu: int
    up: bool
    master: int
    peer: int
    peer_nsid: int
    alias: str
    group: int
    generates: bool
    hairpin: bool
    gullible: bool
    vxlan: VxlanData | None
    resolves: bool = True
    ipip: Address | None = None
    ipip_parent: int = 0
    xdp: int = 0


def new_veth(
    name: str,
    peer: str,
    netns: int | None,
    *,
    mac: Mac,
    peer_mac: Mac,
    mtu: int,
    index: int = 0,
    peer_index: int = 0,
    master: int = 0,
    up: bool = False,
) -> bytes:
    """A veth whose other end is born in namespace `netns` (a descriptor; None: the same) with its final name.  Index 0: the kernel
    chooses.

    With one queue in each direction: left alone, the kernel makes one for each of the machine's processors, files below /sys
    for each, and a fifth of a veth's birth goes into that even with two processors.  Only a veth with an XDP program uses them."""
    other = (
        IFINFO.pack(AF_UNSPEC, 0, peer_index, 0, 0)
        + text(IFLA_IFNAME, peer)
        + attribute(IFLA_ADDRESS, mac_bytes(peer_mac))
        + u32(IFLA_MTU, mtu)
        + (u32(IFLA_NET_NS_FD, netns) if netns is not None else b"")
        + _ONE_QUEUE
    )
    data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
    return _new(name, "veth", mac, mtu, index, up, data, _ONE_QUEUE, master=master)


def new_bridge(name: str, *, mac: Mac, mtu: int, index: int = 0, up: bool = False) -> bytes:
    """Does not learn from frames to the reserved groups 01:80:c2:00:00:0X (IEEE 802.1D): they are taken in before netfilter, and by
    one of them a port could have another's MAC for its own.

    Without STP its ports forward at once, whatever the delay is; but with one the kernel tells of each port once more when it is over,
    15 seconds after it came, and that would be news for whoever watches."""
    return _new(name, "bridge", mac, mtu, index, up, nested(IFLA_INFO_DATA, _NOT_GULLIBLE, u32(IFLA_BR_FORWARD_DELAY, 0)))


def new_ifb(name: str, *, mac: Mac, mtu: int, index: int = 0, up: bool = False) -> bytes:
    return _new(name, "ifb", mac, mtu, index, up)


def new_ipip(name: str, local: Address | None, *, mtu: int, parent: int = 0, up: bool = False) -> bytes:
    """The kernel's own IPv4 in IPv4: where to is the route's gateway.  Outer packets are not to be fragmented.  Without `local` it takes
    in what no other does; then it needs a `parent`, for there is one without either already."""
    return _new(name, "ipip", None, mtu, 0, up, nested(IFLA_INFO_DATA, _ipip_settings(local, parent)))


def set_ipip(index: int, local: Address) -> bytes:
    """Another outer source, in place."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "ipip"), nested(IFLA_INFO_DATA, _ipip_settings(local, 0)))
    return message(RTM_NEWLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + info)


def set_not_gullible(index: int) -> bytes:
    """See `new_bridge`."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"), nested(IFLA_INFO_DATA, _NOT_GULLIBLE))
    return message(RTM_NEWLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + info)


def new_vxlan(name: str, vxlan: VxlanData, *, mac: Mac, mtu: int, index: int = 0, up: bool = False) -> bytes:
    """Carries IPv4 or IPv6 outside, as `vxlan.local` is."""
    return _new(name, "vxlan", mac, mtu, index, up, nested(IFLA_INFO_DATA, _vxlan_settings(vxlan), _vxlan_birth(vxlan)))


def set_vxlan(index: int, vxlan: VxlanData) -> bytes:
    """Changes parent, local address and learning in place.  The kernel refuses another VNI or outer family; the port stays."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "vxlan"), nested(IFLA_INFO_DATA, _vxlan_settings(vxlan)))
    return message(RTM_NEWLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + info)


def set_link(
    index: int,
    *,
    up: bool | None = None,
    mac: Mac | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    group: int | None = None,
    generates: bool | None = None,
    resolves: bool | None = None,
    ipv4: Mapping[str, int] | None = None,
) -> bytes:
    """Changes what is given and leaves the rest.  `master` 0: none.  `alias` empty: none.  `generates`, `resolves`: see Device.
    `ipv4`: values of net.ipv4.conf.LINK (names of IPV4_DEVCONF) without a way through /proc."""
    flags = (IFF_UP if up else 0) | (IFF_NOARP if resolves is False else 0)
    mask = (0 if up is None else IFF_UP) | (0 if resolves is None else IFF_NOARP)
    parts = [IFINFO.pack(AF_UNSPEC, 0, index, flags, mask)]
    if mac is not None:
        parts.append(attribute(IFLA_ADDRESS, mac_bytes(mac)))
    if mtu is not None:
        parts.append(u32(IFLA_MTU, mtu))
    if master is not None:
        parts.append(u32(IFLA_MASTER, master))
    if alias is not None:
        parts.append(attribute(IFLA_IFALIAS, alias.encode()))
    if group is not None:
        parts.append(u32(IFLA_GROUP, group))
    if spec := _family_settings(generates, ipv4):
        parts.append(nested(IFLA_AF_SPEC, *spec))
    return message(RTM_SETLINK, 0, b"".join(parts))


def set_hairpin(index: int, hairpin: bool) -> bytes:
    """Whether the bridge sends a frame back to the port that it came from."""
    port = nested(IFLA_PROTINFO, u8(IFLA_BRPORT_MODE, hairpin))
    return message(RTM_SETLINK, 0, IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + port)


def set_xdp(index: int, program: int, instead_of: int = -1) -> bytes:
    """An open program for the driver to run, by descriptor; -1 for none.  Refused where there is another than `instead_of`, and by drivers
    that cannot."""
    replaced = u32(IFLA_XDP_EXPECTED_FD, instead_of) if instead_of >= 0 else b""
    flags = u32(IFLA_XDP_FLAGS, XDP_DRIVER | (XDP_REPLACE if replaced else XDP_IF_NONE))
    xdp = nested(IFLA_XDP, attribute(IFLA_XDP_FD, _FD.pack(program)), flags, replaced)
    return message(RTM_SETLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + xdp)


def delete_link(index: int) -> bytes:
    """The acknowledgement comes 16 to 20 ms later (the kernel waits for RCU); the RTM_DELLINK event after 1 to 2 ms."""
    return message(RTM_DELLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0))


def delete_group(group: int) -> bytes:
    """Removes every link of the group in the time of one."""
    return message(RTM_DELLINK, 0, IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + u32(IFLA_GROUP, group))


def get_links(kind: str = "") -> bytes:
    """To be dumped: all links, or those of one kind (all of them again, where the kernel does not know that kind)."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind)) if kind else b""
    return message(RTM_GETLINK, 0, IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) + info)


def get_link(name: str) -> bytes:
    """To be asked."""
    body = IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return message(RTM_GETLINK, 0, body)


def get_link_at(index: int) -> bytes:
    """To be asked."""
    return message(RTM_GETLINK, 0, IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))


def parse_link(body: bytes) -> Device:
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = to_text(info.get(IFLA_INFO_KIND, b""))
    families = attributes(found.get(IFLA_AF_SPEC, b""))
    inet6 = attributes(families.get(AF_INET6, b""))
    port = attributes(info.get(IFLA_INFO_SLAVE_DATA, b""))
    ipip = _parse_ipip(info.get(IFLA_INFO_DATA, b"")) if kind == "ipip" else (None, 0)
    return Device(
        index=index,
        name=to_text(found[IFLA_IFNAME]),
        kind=kind,
        mac=mac_text(found.get(IFLA_ADDRESS, b"")),
        mtu=to_int(found.get(IFLA_MTU, b"")),
        up=bool(flags & IFF_UP),
        master=to_int(found.get(IFLA_MASTER, b"")),
        peer=to_int(found.get(IFLA_LINK, b"")),
        peer_nsid=to_int(found[IFLA_LINK_NETNSID]) if IFLA_LINK_NETNSID in found else -1,
        alias=to_text(found.get(IFLA_IFALIAS, b"")),
        group=to_int(found.get(IFLA_GROUP, b"")),
        # without IPv6 (or with an MTU below 1280) there is no mode, and nothing is generated
        generates=inet6.get(IFLA_INET6_ADDR_GEN_MODE, bytes((IN6_ADDR_GEN_MODE_NONE,)))[0] != IN6_ADDR_GEN_MODE_NONE,
        hairpin=bool(to_int(port.get(IFLA_BRPORT_MODE, b""))),
        gullible=kind == "bridge" and _is_gullible(info.get(IFLA_INFO_DATA, b"")),
        vxlan=_parse_vxlan(info.get(IFLA_INFO_DATA, b"")) if kind == "vxlan" else None,
        resolves=not flags & IFF_NOARP,
        ipip=ipip[0],
        ipip_parent=ipip[1],
        xdp=to_int(attributes(found[IFLA_XDP]).get(IFLA_XDP_PROG_ID, b"")) if IFLA_XDP in found else 0,
    )


def parse_index_and_name(body: bytes) -> tuple[int, str]:
    """The two things that most readers of links want, at a tenth of the price: the name is the first attribute."""
    index = IFINFO.unpack_from(body)[2]
    length, kind = struct.unpack_from("=HH", body, IFINFO.size)
    if kind == IFLA_IFNAME:
        return index, to_text(body[IFINFO.size + 4 : IFINFO.size + length])
    return index, to_text(attributes(body, IFINFO.size)[IFLA_IFNAME])


def operating(body: bytes) -> bool:
    """Whether its state is `up` (RFC 2863), which the kernel writes down with the rest that it does about a carrier.  One of the first
    attributes, so it is not worth reading all of them."""
    at = IFINFO.size
    while at < len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == IFLA_OPERSTATE:
            return body[at + 4] == IF_OPER_UP
        at += max(length + 3 & ~3, 4)
    return False


def _new(
    name: str,
    kind: str,
    mac: Mac | None,
    mtu: int,
    index: int,
    up: bool,
    data: bytes = b"",
    more: bytes = b"",
    *,
    master: int = 0,
) -> bytes:
    body = (
        IFINFO.pack(AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)
        + text(IFLA_IFNAME, name)
        + (attribute(IFLA_ADDRESS, mac_bytes(mac)) if mac else b"")
        + u32(IFLA_MTU, mtu)
        + (u32(IFLA_MASTER, master) if master else b"")
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), data)
        + more
    )
    return message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _ipip_settings(local: Address | None, parent: int) -> bytes:
    link = u32(IFLA_IPTUN_LINK, parent) if parent else b""
    source = attribute(IFLA_IPTUN_LOCAL, local.packed) if local else b""
    return link + source + u8(IFLA_IPTUN_PMTUDISC, 1)


def _vxlan_settings(vxlan: VxlanData) -> bytes:
    """What the kernel lets change while the device lives, and the VNI, by which it checks."""
    local = vxlan.local
    return b"".join(
        (
            u32(IFLA_VXLAN_ID, vxlan.vni),
            u32(IFLA_VXLAN_LINK, vxlan.parent) if vxlan.parent else b"",
            attribute(IFLA_VXLAN_LOCAL if local.version == 4 else IFLA_VXLAN_LOCAL6, local.packed) if local else b"",
            u8(IFLA_VXLAN_LEARNING, vxlan.learning),
        )
    )


def _vxlan_birth(vxlan: VxlanData) -> bytes:
    """Fixed for life.  Outer IPv6 without checksum is taken (other senders leave it out), but never sent (RFC 6936)."""
    port = attribute(IFLA_VXLAN_PORT, _PORT.pack(vxlan.port))
    return port + u8(IFLA_VXLAN_UDP_CSUM, 1) + u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1)


def _is_gullible(data: bytes) -> bool:
    """False where the kernel is too old (before 5.0) to know the option."""
    options = attributes(data).get(IFLA_BR_MULTI_BOOLOPT)
    return options is not None and not _BRIDGE_OPTIONS.unpack(options)[0] & BR_NO_LINK_LOCAL_LEARNING


def _parse_vxlan(data: bytes) -> VxlanData:
    found = attributes(data)
    local = found.get(IFLA_VXLAN_LOCAL6) or found.get(IFLA_VXLAN_LOCAL)
    return VxlanData(
        vni=to_int(found.get(IFLA_VXLAN_ID, b"")),
        port=int.from_bytes(found.get(IFLA_VXLAN_PORT, b""), "big"),
        local=ipaddress.ip_address(local) if local else None,
        parent=to_int(found.get(IFLA_VXLAN_LINK, b"")),
        learning=bool(to_int(found.get(IFLA_VXLAN_LEARNING, b""))),
    )


def _parse_ipip(data: bytes) -> tuple[Address | None, int]:
    """Outer source and parent."""
    found = attributes(data)
    local = found.get(IFLA_IPTUN_LOCAL, b"")
    return ipaddress.ip_address(local) if any(local) else None, to_int(found.get(IFLA_IPTUN_LINK, b""))


def _family_settings(generates: bool | None, ipv4: Mapping[str, int] | None) -> list[bytes]:
    spec = []
    if ipv4:
        values = (u32(IPV4_DEVCONF[name], value) for name, value in ipv4.items())
        spec.append(nested(AF_INET, nested(IFLA_INET_CONF, *values)))
    if generates is not None:
        spec.append(nested(AF_INET6, u8(IFLA_INET6_ADDR_GEN_MODE, 0 if generates else IN6_ADDR_GEN_MODE_NONE)))
    return spec
