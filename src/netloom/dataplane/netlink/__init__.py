"""Our own rtnetlink: requests packed by `struct`, sent in batches, and dumps compared as bytes (decision 0002).

wire         header and attributes
connection   Netlink: a socket that sends, matches answers, dumps; NetlinkError
links        requests for links; Device
tables       addresses, routes, neighbours, FDB entries as bytes
qdiscs       token buckets, and filters that lead what arrives elsewhere, as bytes
events       Events: which table was touched on which interface

with Netlink(pod) as inside:
    inside.transact(set_link(2, up=True), put_address(2, address), put_route(key, route, 2))
"""

from netloom.dataplane.netlink.connection import Netlink, NetlinkError
from netloom.dataplane.netlink.events import Events, Touched
from netloom.dataplane.netlink.links import (
    Device,
    VxlanData,
    delete_group,
    delete_link,
    get_link,
    get_link_at,
    get_links,
    new_bridge,
    new_ifb,
    new_ipip,
    new_veth,
    new_vxlan,
    parse_link,
    set_hairpin,
    set_ipip,
    set_link,
    set_not_gullible,
    set_vxlan,
    set_xdp,
)
from netloom.dataplane.netlink.readers import addresses_of, device, device_names, devices, in_service, indexes, is_local
from netloom.dataplane.netlink.tables import (
    PROTOCOL,
    add_route,
    delete_address,
    delete_fdb,
    delete_neighbour,
    delete_route,
    delete_route_by_key,
    get_addresses,
    parse_address,
    put_address,
    put_fdb,
    put_neighbour,
    put_route,
)

__all__ = [
    "PROTOCOL",
    "Device",
    "Events",
    "Netlink",
    "NetlinkError",
    "Touched",
    "VxlanData",
    "add_route",
    "addresses_of",
    "delete_address",
    "delete_fdb",
    "delete_group",
    "delete_link",
    "delete_neighbour",
    "delete_route",
    "delete_route_by_key",
    "device",
    "device_names",
    "devices",
    "get_addresses",
    "get_link",
    "get_link_at",
    "get_links",
    "in_service",
    "indexes",
    "is_local",
    "new_bridge",
    "new_ifb",
    "new_ipip",
    "new_veth",
    "new_vxlan",
    "parse_address",
    "parse_link",
    "put_address",
    "put_fdb",
    "put_neighbour",
    "put_route",
    "set_hairpin",
    "set_ipip",
    "set_link",
    "set_not_gullible",
    "set_vxlan",
    "set_xdp",
]
