"""The requests for qdiscs and filters, byte for byte as tc sends them where it does, and what is read of a dump."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from netloom.dataplane.netlink import wire
from netloom.dataplane.netlink.qdiscs import (
    Bucket,
    get_qdiscs,
    new_clsact,
    new_redirect,
    parse_qdisc,
    parse_redirects,
    put_bucket,
)

RATES, BYTES = st.integers(125, 125 * 10**12), st.integers(590, 2**32 - 1)


def body(message: bytes) -> bytes:
    [(_, _, _, found)] = wire.messages(message)
    return found


def test_the_redirect_is_what_tc_sends() -> None:
    """strace of `tc filter add dev X ingress pref 79 protocol all u32 match u32 0 0 action mirred egress redirect dev Y` (6.1.0);
    tc leaves out the flag of nested attributes in two places."""
    expected = """
        00000000 4d000000 00000000 f2ffffff 00034f00
        08000100 75333200
        60000280
        24000500 01000100 0000000000000000 00000000 00000000000000000000000000000000
        38000780 34000100 0b000100 6d697272656400 00 24000280 20000200
        00000000 00000000 04000000 00000000 00000000 01000000 05000000
    """
    assert body(new_redirect(77, 5)) == bytes.fromhex(expected)


def test_clsact_is_what_tc_sends() -> None:
    assert body(new_clsact(77)).hex() == "000000004d0000000000fffff1ffffff000000000b000100636c736163740000"


@given(RATES, BYTES, BYTES)
def test_a_bucket_says_its_rate_in_64_bits_only_where_32_do_not_hold_it(rate: int, burst: int, queue: int) -> None:
    options = wire.attributes(wire.attributes(body(put_bucket(9, rate, burst, queue)), 20)[2])
    assert struct.unpack_from("=I", options[1], 8)[0] == min(rate, 2**32 - 1)
    assert struct.unpack_from("=III", options[1], 24) == (queue, 0, 0)
    assert (4 in options) == (rate >= 2**32)
    assert wire.to_int(options.get(4, options[1][8:12])) == rate
    assert wire.to_int(options[6]) == burst


@given(RATES, BYTES, BYTES)
def test_a_bucket_is_known_by_the_time_that_it_takes_to_fill(rate: int, burst: int, queue: int) -> None:
    """As the kernel has it: 31 bits of a multiplier, ticks of 64 ns, 32 bits of them."""
    shift = 0
    while not (10**9 << shift) // rate & 1 << 31 and not 10**9 << shift & 1 << 63:
        shift += 1
    nanoseconds = burst * ((10**9 << shift) // rate) >> shift
    there = Bucket(rate, nanoseconds // 64 & 0xFFFFFFFF, queue)
    assert there.is_like(rate, burst, queue)
    assert not there.is_like(rate + 1, burst, queue)
    assert not there.is_like(rate, burst, queue + 1)


def test_another_size_is_another_bucket() -> None:
    assert Bucket(1_250_000, 800_000, 100_000).is_like(1_250_000, 64_000, 100_000)
    assert not Bucket(1_250_000, 800_000, 100_000).is_like(1_250_000, 64_100, 100_000)


@given(st.binary(max_size=120))
def test_hostile_bytes_are_parsed_or_refused(data: bytes) -> None:
    for head in (b"", body(get_qdiscs()), body(new_redirect(1, 2)), body(put_bucket(1, 1000, 2000, 3000))):
        with contextlib.suppress(ValueError, struct.error):
            parse_qdisc(head + data)
        with contextlib.suppress(ValueError, struct.error):
            parse_redirects([head[:20] + data])
