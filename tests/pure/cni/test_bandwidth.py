"""Rates and bursts on stdin: what is taken, and what is refused with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.cni import messages
from netloom.errors import CniError
from netloom.model.attachments import Bandwidth
from tests.pure.cni.calls import ENVIRONMENT, HOST, NETNS, stdin

NONE = {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}
CAPITALS = {"IngressRate": 1_000_000, "IngressBurst": 2**32 - 1, "EgressRate": 0, "EgressBurst": 0}
PLACE = "runtimeConfig.bandwidth"


def bandwidth(limits: object) -> Bandwidth | None:
    config = {"cniVersion": "1.1.0", "name": "blue", "runtimeConfig": {"bandwidth": limits}}
    request = messages.parse(ENVIRONMENT, stdin(config), NETNS, HOST)
    assert isinstance(request, messages.Add)
    return request.bandwidth


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param({}, None, id="nothing"),
        pytest.param(NONE, None, id="0 is no limit"),
        pytest.param({"ingressRate": 1000}, Bandwidth(ingress_rate=1000), id="a rate alone"),
        pytest.param(
            {**NONE, "egressRate": 10**15, "egressBurst": 8 * (2**32 - 1)},
            Bandwidth(egress_rate=10**15, egress_burst=34_359_738_360),
            id="the most",
        ),
        pytest.param(CAPITALS, Bandwidth(ingress_rate=1_000_000, ingress_burst=2**32 - 1), id="as containerd writes it"),
    ],
)
def test_what_is_taken(limits: object, expected: Bandwidth | None) -> None:
    assert bandwidth(limits) == expected


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"ingressRate": -1},
            f"{PLACE}: ingressRate: -1 is out of range; 1000 to 1000000000000000 bits per second, or 0 for no limit",
        ),
        ({"IngressRate": -1}, f"{PLACE}: ingressRate: -1 is out of range"),
        ({"egressRate": 999}, f"{PLACE}: egressRate: 999 is out of range"),
        ({"egressRate": 10**15 + 1}, f"{PLACE}: egressRate: 1000000000000001 is out of range"),
        ({"ingressRate": 2**64}, f"{PLACE}: ingressRate: 18446744073709551616 is out of range"),
        ({"ingressBurst": 1000}, f"{PLACE}: ingressBurst: 1000 means nothing without ingressRate"),
        ({"egressBurst": 1000, "ingressRate": 1000}, f"{PLACE}: egressBurst: 1000 means nothing without egressRate"),
        ({"egressRate": 10**6, "egressBurst": -8}, f"{PLACE}: egressBurst: -8 is out of range; up to 34359738360 bits"),
        ({"egressRate": 10**6, "egressBurst": 2**35}, f"{PLACE}: egressBurst: 34359738368 is out of range"),
        ({"egressRate": 1000000.5}, f"{PLACE}.egressRate: Expected `int`, got `float`"),
        ({"egressRate": "1M"}, f"{PLACE}.egressRate: Expected `int`, got `str`"),
        ({"egressRate": True}, f"{PLACE}.egressRate: Expected `int`, got `bool`"),
        ([1000], f"{PLACE}: Expected `object | null`, got `array`"),
    ],
    ids=str,
)
def test_what_is_no_rate_is_code_7_with_its_place(limits: object, said: str) -> None:
    with pytest.raises(CniError) as refused:
        bandwidth(limits)
    assert refused.value.code == 7
    assert str(refused.value).startswith(said)


@given(st.dictionaries(st.sampled_from([*NONE, *CAPITALS]), st.integers(-(10**18), 10**18) | st.just(10**300)))
def test_whatever_numbers_come_it_is_a_limit_that_the_kernel_can_hold_or_code_7(limits: dict[str, int]) -> None:
    try:
        found = bandwidth(limits)
    except CniError as e:
        assert e.code == 7
    else:
        assert found is None or (found.ingress_rate or found.egress_rate)
