"""Who carries what: the best that the host allows, or the one that somebody asked for, and why."""

from __future__ import annotations

import pytest

from netloom.agent.engines import Trial, choose, chosen
from netloom.model.desired import Carrier, Engine

EVERYBODY = frozenset(Engine)


def trials(able: frozenset[Engine], asked: list[Engine] | None = None) -> dict[Engine, Trial]:
    def trial(engine: Engine) -> Trial:
        def tried() -> str | None:
            if asked is not None:
                asked.append(engine)
            return None if engine in able else "it was refused"

        return tried

    return {engine: trial(engine) for engine in Engine}


@pytest.mark.parametrize(
    ("wish", "able", "ipip", "udp"),
    [
        ("auto", EVERYBODY, Engine.EBPF, Engine.EBPF),
        ("auto", EVERYBODY - {Engine.EBPF}, Engine.KERNEL, Engine.FORWARDER),
        ("auto", {Engine.FORWARDER}, None, Engine.FORWARDER),
        ("auto", set(), None, None),
        ("ebpf", EVERYBODY, Engine.EBPF, Engine.EBPF),
        ("ebpf", EVERYBODY - {Engine.EBPF}, None, None),
        ("forwarder", EVERYBODY, Engine.EBPF, Engine.FORWARDER),
        ("forwarder", EVERYBODY - {Engine.EBPF}, Engine.KERNEL, Engine.FORWARDER),
        ("forwarder", {Engine.EBPF}, Engine.EBPF, None),
        ("kernel", EVERYBODY, Engine.KERNEL, Engine.EBPF),
        ("kernel", {Engine.FORWARDER}, None, Engine.FORWARDER),
    ],
)
def test_the_first_that_can_carries_it(wish: str, able: set[Engine], ipip: Engine | None, udp: Engine | None) -> None:
    found = chosen(choose(wish, trials(frozenset(able))))
    assert (found.get(Carrier.IPIP), found.get(Carrier.UDP)) == (ipip, udp)


def test_each_says_why_it_is_that_one() -> None:
    ipip, udp = choose("auto", trials(frozenset({Engine.FORWARDER})))
    assert (ipip.engine, ipip.reason) == (None, "no ebpf: it was refused; no kernel: it was refused")
    assert (udp.engine, udp.reason) == (Engine.FORWARDER, "no ebpf: it was refused")
    ipip, udp = choose("forwarder", trials(EVERYBODY))
    assert ipip.reason == "this host allows it"
    assert udp.reason == "as tunnelEngine says"


def test_nobody_is_tried_twice_or_without_need() -> None:
    asked: list[Engine] = []
    choose("auto", trials(EVERYBODY, asked))
    assert asked == [Engine.EBPF]
    asked.clear()
    choose("auto", trials(frozenset(), asked))
    assert sorted(asked, key=lambda e: e.value) == [Engine.EBPF, Engine.FORWARDER, Engine.KERNEL]
