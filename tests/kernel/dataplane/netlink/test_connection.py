"""The socket: batches, refusals, dumps, and what happens when the buffer is too small."""

from __future__ import annotations

import errno
import ipaddress
from typing import Any

import pytest

from netloom.dataplane import netns
from netloom.dataplane.netlink import (
    Netlink,
    NetlinkError,
    delete_neighbour,
    device,
    device_names,
    get_links,
    indexes,
    new_bridge,
    put_address,
    put_neighbour,
    set_link,
)
from netloom.dataplane.netlink.tables import IFADDR, RTM_GETADDR, get_neighbours, is_permanent, parse_neighbour
from netloom.dataplane.netlink.wire import AF_INET, NLM_F_ACK, NLM_F_DUMP, message
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from tests.kernel.iproute import run

A = Mac("66:00:00:00:00:01")
FIRST = ipaddress.ip_address("10.0.0.0")
MANY = 9000  # about 400 KB: several chunks


@pytest.fixture
def kernel(node: int) -> Netlink:
    netlink = Netlink()
    netlink.transact(new_bridge("up0", mac=A, mtu=1500, index=50, up=True))
    return netlink


def neighbours(kernel: Netlink) -> int:
    return sum(is_permanent(body) for body in kernel.dump(get_neighbours(4)))


def test_a_socket_belongs_to_the_namespace_that_it_was_opened_for(node: int, pod: int) -> None:
    with Netlink(pod) as inside:
        inside.transact(new_bridge("here", mac=A, mtu=1500))
        assert set(device_names(inside).values()) == {"lo", "here"}
    with Netlink() as outside:
        assert set(device_names(outside).values()) == {"lo"}
    with netns.entered(pod):
        assert "here" in run("ip link show")


def test_thousands_go_out_in_chunks_and_each_refusal_finds_its_message(kernel: Netlink) -> None:
    requests = [put_neighbour(50, FIRST + i, A) for i in range(MANY)]
    wrong = [0, 17, 2999, 3000, MANY - 1]
    for i in wrong:
        requests[i] = put_neighbour(999, FIRST + i, A)
    refused = kernel.send_many(requests)
    assert sorted(refused) == wrong
    assert {(error.index, error.errno) for error in refused.values()} == {(i, errno.ENODEV) for i in wrong}
    assert neighbours(kernel) == MANY - len(wrong)


def test_even_if_every_message_is_refused_nothing_is_lost(kernel: Netlink) -> None:
    refused = kernel.send_many([delete_neighbour(50, FIRST + i) for i in range(MANY)])
    assert sorted(refused) == list(range(MANY))
    assert {error.errno for error in refused.values()} == {errno.ENOENT}


def test_where_answers_do_not_fit_the_chunk_is_sent_again_in_halves(kernel: Netlink) -> None:
    with Netlink(buffer=4096) as small:
        refused = small.send_many([delete_neighbour(50, FIRST + i) for i in range(1000)])
        assert sorted(refused) == list(range(1000))
        assert {error.errno for error in refused.values()} == {errno.ENOENT}
        small.transact(put_neighbour(50, FIRST, A))
        assert neighbours(small) == 1


def test_nothing_to_send_is_nothing_to_do(kernel: Netlink) -> None:
    kernel.transact()
    assert kernel.send_many([]) == {}


def test_a_dump_is_complete_over_many_datagrams(kernel: Netlink) -> None:
    kernel.send_many([put_neighbour(50, FIRST + i, A) for i in range(MANY)])
    found = [parse_neighbour(body) for body in kernel.dump(get_neighbours(4)) if is_permanent(body)]
    assert sorted(address for _, address, _ in found) == [FIRST + i for i in range(MANY)]
    assert {(index, mac) for index, _, mac in found} == {(50, A)}


def test_answers_to_a_request_that_was_given_up_do_not_confuse_the_next_one(kernel: Netlink) -> None:
    kernel.send_many([put_neighbour(50, FIRST + i, A) for i in range(20)])
    kernel._ask(put_neighbour(999, FIRST, A), NLM_F_ACK)
    kernel._ask(get_links(), NLM_F_DUMP)
    assert neighbours(kernel) == 20
    kernel.transact(put_neighbour(50, FIRST + 20, A))
    with pytest.raises(NetlinkError) as e:
        kernel.transact(set_link(50, up=True), put_neighbour(999, FIRST, A), set_link(50, mtu=1400))
    assert (e.value.index, e.value.errno) == (1, errno.ENODEV)
    changed = device(kernel, "up0")
    assert changed and changed.mtu == 1400


class Disturbed:
    """A socket; between two datagrams of a dump somebody else makes a link, `times` times."""

    def __init__(self, inner: Any, times: int) -> None:
        self._inner, self.times = inner, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def recv(self, size: int) -> bytes:
        datagram: bytes = self._inner.recv(size)
        if self.times and len(datagram) > 8192:
            self.times -= 1
            with Netlink() as other:
                other.transact(new_bridge(f"new{self.times}", mac=A, mtu=1500))
        return datagram


def test_a_dump_that_changes_while_it_is_read_is_read_again_and_given_up_in_the_end(
    kernel: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.send_many([new_bridge(f"br{i}", mac=A, mtu=1500) for i in range(80)])  # more than one datagram
    disturbed = Disturbed(kernel._socket, times=2)
    monkeypatch.setattr(kernel, "_socket", disturbed)
    names = set(device_names(kernel).values())
    assert {"new0", "new1"} <= names and len(names) == 84
    disturbed.times = 1000
    with pytest.raises(DataplaneError, match="changed 5 times"):
        device_names(kernel)


def test_a_request_that_makes_no_sense_is_refused_in_the_kernels_own_words(kernel: Netlink) -> None:
    with pytest.raises(NetlinkError, match="Invalid values in header for address dump request"):
        kernel.dump(message(RTM_GETADDR, 0, IFADDR.pack(AF_INET, 24, 0, 0, 0)))
    with pytest.raises(NetlinkError) as e:
        kernel.transact(put_address(999, ipaddress.ip_interface("10.0.0.1/24")))
    assert e.value.errno == errno.ENODEV


@pytest.mark.parametrize("count", [1, 40])
def test_indexes_of_few_and_of_many_names_are_found_and_missing_ones_are_left_out(kernel: Netlink, count: int) -> None:
    names = [f"br{i}" for i in range(count)]
    kernel.send_many([new_bridge(name, mac=A, mtu=1500, index=100 + i) for i, name in enumerate(names)])
    assert indexes(kernel, {*names, "gone"}) == {name: 100 + i for i, name in enumerate(names)}
