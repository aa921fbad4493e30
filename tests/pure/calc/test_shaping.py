"""From bits that are asked for to token buckets that do not lose what they should pass."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.calc import pod
from netloom.calc.pods import GATEWAYS, HOST_MAC
from netloom.calc.shaping import limit
from netloom.model.addresses import Mac
from netloom.model.attachments import (
    Attachment,
    AttachmentKey,
    Bandwidth,
    NetnsId,
    State,
    bandwidth_words,
    host_interface_name,
    ifb_name,
    parse_bandwidth,
)
from netloom.model.desired import Ifb, Limit, Shaping

KEY = AttachmentKey("net", "c1", "eth0")
HOST = host_interface_name(KEY)
RATES = st.integers(1000, 10**15)
BURSTS = st.integers(0, 8 * (2**32 - 1))
MTUS = st.integers(576, 65535)


def attachment(bandwidth: Bandwidth | None) -> Attachment:
    return Attachment(
        key=KEY,
        sequence=1,
        state=State.READY,
        netns=NetnsId(1, 1),
        host_interface=HOST,
        mac=Mac("0a:58:0a:01:00:02"),
        host_mac=HOST_MAC,
        mtu=1450,
        addresses=(ipaddress.ip_interface("10.1.0.2/32"),),
        gateways=(GATEWAYS[4],),
        bandwidth=bandwidth,
    )


def test_what_a_pod_receives_is_limited_at_the_hosts_end_of_its_link() -> None:
    found = pod(attachment(Bandwidth(ingress_rate=8_000_000, ingress_burst=800_000)))
    assert found.shaping == {HOST: Shaping(Limit(rate=1_000_000, burst=100_000, queue=287_216))}
    assert not any(isinstance(link, Ifb) for link in found.links.values())


def test_what_a_pod_sends_is_limited_in_an_ifb_that_says_whose_it_is() -> None:
    one = attachment(Bandwidth(egress_rate=8_000_000, egress_burst=800_000))
    found = pod(one)
    ifb = ifb_name(HOST)
    assert found.shaping == {HOST: Shaping(redirect=ifb), ifb: Shaping(Limit(1_000_000, 100_000, 287_216))}
    assert found.links[ifb] == Ifb(HOST_MAC, 1450, one.alias)
    assert ifb.startswith("loomq") and len(ifb) == 15


def test_a_pod_without_limits_has_neither() -> None:
    assert not pod(attachment(None)).shaping
    assert list(pod(attachment(None)).links) == [HOST]


@pytest.mark.parametrize(
    ("rate", "burst", "mtu", "expected"),
    [
        pytest.param(8_000_000, 800, 1500, Limit(1_000_000, 1518, 287_216), id="a burst below a frame would pass nothing"),
        pytest.param(8 * 10**9, 800, 1500, Limit(10**9, 10**6, 25_262_216), id="nor may the kernel be late"),
        pytest.param(8_000_000, 0, 1500, Limit(1_000_000, 100_000, 287_216), id="none given: a tenth of a second"),
        pytest.param(8_000, 0, 1500, Limit(1000, 65_554, 262_241), id="but a packet of 64 KiB at least"),
        pytest.param(8_000, 0, 65535, Limit(1000, 65_554, 262_241), id="and a frame of a large interface"),
        pytest.param(8_000_000, 2**32 - 1, 1500, Limit(10**6, 2**29 - 1, 287_216), id="Kubernetes: no more waits"),
        pytest.param(10**15, 0, 1500, Limit(125 * 10**12, 2**32 - 1, 2**32 - 1), id="32 bits for bytes"),
        pytest.param(0, 0, 1500, None, id="no rate"),
    ],
)
def test_a_bucket_holds_what_it_has_to_pass(rate: int, burst: int, mtu: int, expected: Limit | None) -> None:
    assert limit(rate, burst, mtu) == expected


@given(RATES, BURSTS, MTUS)
def test_every_rate_that_may_be_asked_for_fits_the_kernels_numbers(rate: int, burst: int, mtu: int) -> None:
    found = limit(rate, burst, mtu)
    assert found is not None
    assert 0 < found.rate < 2**63 and mtu + 14 <= found.burst < 2**32 and mtu + 14 <= found.queue < 2**32


@given(st.builds(Bandwidth, ingress_rate=RATES, ingress_burst=BURSTS, egress_rate=RATES, egress_burst=BURSTS))
def test_the_words_of_an_alias_say_it_again(bandwidth: Bandwidth) -> None:
    words = bandwidth_words(bandwidth)
    assert parse_bandwidth(words) == bandwidth
    assert len(" ".join(words)) <= 62


@pytest.mark.parametrize("word", ["in=", "in=0/0", "in=1", "in=-1/0", "up=1/1", "in=1/1 ", "in=1/1/1", "in=" + "9" * 17 + "/0"])
def test_a_word_that_says_something_else_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is no limit"):
        parse_bandwidth([word])
