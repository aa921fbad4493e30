from __future__ import annotations

import ipaddress

from netloom.model.addresses import Address, Prefix
from netloom.tunnel.forwarder.table import Peer, Table

A, B = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::2")
ONE, TWO = ipaddress.ip_network("10.244.1.0/24"), ipaddress.ip_network("fd00:2::/64")


def found(table: Table, prefix: Prefix) -> Peer | None:
    return table.by_prefix.find((prefix.network_address + 5).packed)


def test_who_is_sent_to_and_who_is_believed_is_one_peer() -> None:
    table = Table(8285)
    table.replace({ONE: A, TWO: B}, {A: None, B: None})
    for prefix, address in ((ONE, A), (TWO, B)):
        peer = found(table, prefix)
        assert peer is not None
        assert peer.where == (str(address), 8285)
        assert table.by_sender[str(address)] is peer


def test_a_change_counts_on_and_keeps_what_stays() -> None:
    table = Table(8285)
    table.replace({ONE: A}, {A: None})
    peer = found(table, ONE)
    assert peer is not None
    peer.sent = 7
    number = table.number
    table.change({TWO: A}, [ONE])
    assert table.number == number + 1
    assert found(table, ONE) is None
    assert found(table, TWO) is peer
    table.replace({ONE: A}, {A: None})
    assert found(table, ONE) is peer
    assert peer.sent == 7


def test_a_prefix_that_moves_is_nowhere_else() -> None:
    table = Table(8285)
    table.replace({ONE: A}, {A: None})
    table.change({ONE: B}, [])
    moved = found(table, ONE)
    assert moved is not None
    assert moved.address == B
    assert {peer.address for peer in table.peers} == {A, B}
    table.change({}, [], disbelieve=[A])
    assert [peer.address for peer in table.peers] == [B]


def test_whoever_nothing_refers_to_is_forgotten() -> None:
    table = Table(8285)
    nothing: dict[Prefix, Address] = {}
    table.replace({ONE: A, TWO: A}, {A: None})
    table.replace(nothing, {})
    assert not table.peers
    assert not table.by_sender
    table.change(nothing, [ONE], disbelieve=[A])
    assert not table.peers


def test_a_sender_that_has_another_address_now_is_told_from_one_that_has_not() -> None:
    table = Table(8285)
    table.replace({ONE: B}, {A: B, B: None})
    assert table.former == {A: B}
    table.change({}, [], believe={A: None})
    assert table.former == {}
    table.change({}, [], believe={A: B})
    table.change({}, [], disbelieve=[A])
    assert (table.former, table.senders) == ({}, {B})
