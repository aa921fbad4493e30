"""Hostile values through the renderer: refused, or data.  BIRD itself reads some of them in tests/kernel/bgp."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from netloom.bgp.rendering import render
from netloom.errors import ConfigError
from tests.bgp_configs import PASSWORD
from tests.bird_syntax import shape, tree
from tests.hostile_bgp import PARTS, hostile, small

TRIES = 10_000


def test_ten_thousand_hostile_values_are_refused_or_data() -> None:
    meant = shape(tree(render(small(), {PASSWORD: "harmless"})))
    taken = 0
    shapes: dict[str, object] = {}
    for each in hostile(5, TRIES):
        try:
            found = render(each.config, each.secrets)
        except ConfigError:
            continue
        taken += 1
        if found not in shapes:
            shapes[found] = shape(tree(found))
        assert shapes[found] == meant, (each.field, found)
    assert taken > 100, "nothing at all came through"


@pytest.mark.parametrize("part", PARTS)
def test_origins_and_names_of_nodes_are_comments(part: str) -> None:
    base = small()
    meant = tree(render(base, {PASSWORD: "harmless"}))[:-3]
    session = replace(base.sessions[0], origin=f"BGPPeer {part}")
    announced = tuple(replace(each, origin=part) for each in base.announced)
    found = render(replace(base, node=part, sessions=(session,), announced=announced), {PASSWORD: "harmless"})
    assert tree(found)[:-3] == meant


@pytest.mark.parametrize("part", PARTS)
def test_a_password_is_one_string_or_refused(part: str) -> None:
    meant = shape(tree(render(small(), {PASSWORD: "harmless"})))
    try:
        found = render(small(), {PASSWORD: part})
    except ConfigError as e:
        assert len(part.strip()) < 3 or part not in str(e)
    else:
        assert shape(tree(found)) == meant
        assert f'"{part}"' in found


@pytest.mark.parametrize("part", PARTS)
def test_a_filters_name_becomes_a_symbol(part: str) -> None:
    base = small()
    meant = shape(tree(render(base, {PASSWORD: "harmless"})))
    session = replace(base.sessions[0], filters=(part,))
    found = render(replace(base, filters={part: base.filters["rack"]}, sessions=(session,)), {PASSWORD: "harmless"})
    names = re.compile(r"rules_\w+?_(import|export)4")
    assert names.sub("RULES", repr(shape(tree(found)))) == names.sub("RULES", repr(meant))
