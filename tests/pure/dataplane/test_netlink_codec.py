"""The codec: what is packed is parsed again, and what is cut short is an error, never an endless loop."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.dataplane.netlink import tables, wire
from netloom.dataplane.netlink.links import IFINFO, VxlanData, new_bridge, new_vxlan, parse_index_and_name, parse_link, set_link
from netloom.model.addresses import Mac, mac_text
from netloom.model.desired import Route, RouteKey, RouteKind

MACS = st.binary(min_size=6, max_size=6).map(mac_text)
INDEXES = st.integers(1, 2**31 - 1)
FOUR, SIX = st.ip_addresses(v=4), st.ip_addresses(v=6)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=15)


@st.composite
def routes(draw: st.DrawFn) -> tuple[RouteKey, Route, int]:
    address = draw(FOUR | SIX)
    own = FOUR if address.version == 4 else SIX
    prefix = ipaddress.ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)
    key = RouteKey(prefix, draw(st.integers(0 if address.version == 4 else 1, 2**32 - 1)))
    if draw(st.booleans()):
        return key, Route(kind=RouteKind.BLACKHOLE), 0
    gateway = draw(st.none() | own.filter(bool))
    return key, Route("dev", gateway, draw(st.booleans()), draw(st.none() | own.filter(bool))), draw(st.integers(2, 2**31 - 1))


def body(message: bytes) -> bytes:
    [(_, _, _, found)] = wire.messages(message)
    return found


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_come_back_as_they_were_packed(values: dict[int, bytes]) -> None:
    packed = b"".join(wire.attribute(kind, value) for kind, value in values.items())
    assert len(packed) % 4 == 0
    assert wire.attributes(packed) == values
    assert wire.attributes(b"head" + packed, 4) == values


@given(st.binary(max_size=64))
def test_hostile_bytes_are_parsed_or_refused(data: bytes) -> None:
    for parse in (wire.attributes, lambda d: list(wire.messages(d))):
        with contextlib.suppress(ValueError, struct.error):
            parse(data)


@pytest.mark.parametrize("length", [0, 15, 17, 2**32 - 1])
def test_a_message_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        list(wire.messages(struct.pack("=IHHII", length, 1, 0, 0, 0)))


@given(st.lists(st.tuples(st.integers(16, 100), st.binary(max_size=20).filter(lambda b: len(b) % 4 == 0)), max_size=5))
def test_messages_come_back_in_their_order(values: list[tuple[int, bytes]]) -> None:
    packed = b"".join(wire.message(kind, 0, content) for kind, content in values)
    assert [(kind, content) for kind, _, _, content in wire.messages(packed)] == values


@given(routes())
def test_a_route_comes_back_as_it_was_encoded(item: tuple[RouteKey, Route, int]) -> None:
    key, route, index = item
    found = tables.parse_route(
        tables.encode_route(key, route, index) + tables.AFTER_ROUTE[key.prefix.version], {index: route.device}
    )
    assert (found.key, found.route, found.selective) == (key, route, False)


@given(INDEXES, FOUR | SIX, MACS)
def test_a_neighbour_comes_back_as_it_was_encoded(index: int, address: ipaddress.IPv4Address, mac: Mac) -> None:
    assert tables.parse_neighbour(tables.encode_neighbour(index, address, mac)) == (index, address, mac)
    assert tables.is_permanent(tables.encode_neighbour(index, address, mac))


@given(INDEXES, MACS, FOUR | SIX)
def test_a_forwarding_entry_comes_back_as_it_was_encoded(index: int, mac: Mac, address: ipaddress.IPv4Address) -> None:
    assert tables.parse_fdb(tables.encode_fdb(index, mac, address)) == (index, mac, address)
    with_port = tables.encode_fdb(index, mac, address) + wire.attribute(6, b"\0\1")
    assert tables.parse_fdb(with_port) == (index, mac, None)


@given(INDEXES, FOUR | SIX, st.data())
def test_an_address_comes_back_as_it_was_encoded(index: int, address: ipaddress.IPv4Address, data: st.DataObject) -> None:
    interface = ipaddress.ip_interface((address, data.draw(st.integers(0, address.max_prefixlen))))
    permanent = wire.u32(tables.IFA_FLAGS, tables.IFA_F_PERMANENT)
    assert tables.parse_address(tables.encode_address(index, interface) + permanent) == (index, interface, True)
    assert tables.parse_address(tables.encode_address(index, interface)) == (index, interface, False)


@given(NAMES, INDEXES, MACS, st.integers(68, 65535), st.booleans())
def test_a_new_link_reads_as_it_was_asked_for(name: str, index: int, mac: Mac, mtu: int, up: bool) -> None:
    found = parse_link(body(new_bridge(name, mac=mac, mtu=mtu, index=index, up=up)))
    assert (found.name, found.index, found.mac, found.mtu, found.up, found.kind) == (name, index, mac, mtu, up, "bridge")
    assert parse_index_and_name(body(new_bridge(name, mac=mac, mtu=mtu, index=index))) == (index, name)


@given(
    st.integers(0, 2**24 - 1), st.integers(1, 65535), st.none() | FOUR.filter(bool) | SIX.filter(bool), st.booleans(), INDEXES
)
def test_a_tunnel_reads_as_it_was_asked_for(
    vni: int, port: int, local: ipaddress.IPv4Address, learning: bool, parent: int
) -> None:
    data = VxlanData(vni, port, local, parent, learning)
    assert parse_link(body(new_vxlan("v", data, mac=Mac("66:00:00:00:00:01"), mtu=1450))).vxlan == data


def test_only_what_is_given_is_set() -> None:
    assert body(set_link(7)) == IFINFO.pack(0, 0, 7, 0, 0)
    assert wire.attributes(body(set_link(7, master=0)), IFINFO.size) == {10: bytes(4)}
    assert IFINFO.unpack_from(body(set_link(7, up=False))) == (0, 0, 7, 0, 1)
