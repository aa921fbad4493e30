"""What the kernel says happened: which table, on which interface.  The reader then looks for itself (level, not edge).

Little is parsed, because a burst may be 30 000 events long, and each one only says "look again".  Of sysctls the kernel tells
only some: forwarding, rp_filter, proxy_arp and their like.  Three things matter:
RTM_DELLINK with family AF_UNSPEC means that the link is gone from this namespace (with AF_BRIDGE only that it left a bridge),
and it arrives 15 ms before the remover gets its acknowledgement.  What our own sockets write is passed over, so that a pass does
not call for the next one.  And a full buffer is reported as `overrun`: then everything has to be looked at.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from netloom.dataplane import netns as namespaces
from netloom.dataplane.netlink.connection import BUFFER, SO_RCVBUFFORCE, SOL_NETLINK
from netloom.dataplane.netlink.links import IFINFO, RTM_DELLINK, RTM_NEWLINK
from netloom.dataplane.netlink.qdiscs import RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, TCMSG
from netloom.dataplane.netlink.tables import (
    IFADDR,
    NDMSG,
    NUD_NOARP,
    PROTOCOL,
    RT_TABLE_MAIN,
    RTA_OIF,
    RTM_DELADDR,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTMSG,
    RTPROT_KERNEL,
)
from netloom.dataplane.netlink.wire import AF_BRIDGE, AF_UNSPEC, HEADER, HEADER_LENGTH, NLM_F_REPLACE

NETLINK_ADD_MEMBERSHIP = 1
RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC = 1, 3, 4
RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE = 5, 7, 9, 11
RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF = 24, 25
RTM_NEWNETCONF = 80
GROUPS = (
    RTNLGRP_LINK,
    RTNLGRP_NEIGH,
    RTNLGRP_TC,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV6_NETCONF,
)

AT_ONCE = 1024
"""Events of one `read`, some 3 ms: the caller's loop has other things to do; the descriptor stays readable."""
_EVENT = 16 << 10
_ATTRIBUTE = struct.Struct("=HH")
_INDEX = struct.Struct("=i")


@dataclass(slots=True)
class Touched:
    """Indexes of the interfaces touched, by table (the drivers' names); 0 where an entry has none.
    `removed`: links that are gone.  `overrun`: events were lost, anything may have happened.  `ways`: somebody else changed a route, by
    which other nodes may be reached."""

    tables: dict[str, set[int]] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    overrun: bool = False
    ways: bool = False

    def __bool__(self) -> bool:
        return bool(self.tables or self.overrun)


class Events:
    """`own`: ports (`Netlink.port`) whose writes are no news; the collection may grow later.  The kernel does not say who wrote a
    link or an FDB entry: of these, one's own are news too."""

    def __init__(self, netns: int | None = None, *, own: Collection[int] = (), buffer: int = BUFFER) -> None:
        self.own = own
        if netns is None:
            self._socket = _open(buffer)
        else:
            with namespaces.entered(netns):
                self._socket = _open(buffer)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> Touched:
        """What has arrived, without waiting."""
        touched = Touched()
        for _ in range(AT_ONCE):
            try:
                datagram = self._socket.recv(_EVENT)
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                touched.overrun = True
                continue
            self._note(touched, datagram)
        return touched

    def _note(self, touched: Touched, event: bytes) -> None:
        """The kernel sends one event in one datagram."""
        length, kind, flags, _, port = HEADER.unpack_from(event)
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            family, _, index, _, _ = IFINFO.unpack_from(event, HEADER_LENGTH)
            touched.tables.setdefault("links", set()).add(index)
            if kind == RTM_DELLINK and family == AF_UNSPEC:
                touched.removed.add(index)
        elif port in self.own:
            return
        elif kind in (RTM_NEWROUTE, RTM_DELROUTE):
            # somebody else's route concerns our tables only where it may have taken the place of one of ours
            _, _, _, _, table, protocol, *_ = RTMSG.unpack_from(event, HEADER_LENGTH)
            touched.ways = touched.ways or (protocol not in (PROTOCOL, RTPROT_KERNEL) and table == RT_TABLE_MAIN)
            if protocol == PROTOCOL or flags & NLM_F_REPLACE:
                touched.tables.setdefault("routes", set()).add(_route_index(event[:length]))
        elif kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            family, index, state, *_ = NDMSG.unpack_from(event, HEADER_LENGTH)
            if family != AF_BRIDGE and kind == RTM_DELNEIGH and state == NUD_NOARP:
                return  # multicast, which needs no asking: the kernel had it for a moment.  Ours are permanent
            touched.tables.setdefault("fdb" if family == AF_BRIDGE else "neighbours", set()).add(index)
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            touched.tables.setdefault("addresses", set()).add(IFADDR.unpack_from(event, HEADER_LENGTH)[4])
        elif kind in (RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER):
            touched.tables.setdefault("shaping", set()).add(TCMSG.unpack_from(event, HEADER_LENGTH)[1])
        elif kind == RTM_NEWNETCONF:
            touched.tables.setdefault("sysctls", set()).add(0)


def _route_index(event: bytes) -> int:
    offset = HEADER_LENGTH + RTMSG.size
    while offset + 4 <= len(event):
        length, kind = _ATTRIBUTE.unpack_from(event, offset)
        if kind == RTA_OIF:
            return int(_INDEX.unpack_from(event, offset + 4)[0])
        offset += max(4, (length + 3) & ~3)
    return 0


def _open(buffer: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    os.set_blocking(sock.fileno(), False)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    sock.bind((0, 0))
    for group in GROUPS:
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return sock
