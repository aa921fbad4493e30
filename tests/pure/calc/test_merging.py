"""Tables of many groups put together: whatever changed since the last time, they are what they would be if nothing were remembered."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from netloom.calc.merging import Merged
from netloom.calc.tables import Tables
from netloom.model.desired import Route, RouteKey
from netloom.model.edited import Edited

KEYS = [RouteKey(ipaddress.ip_network(f"10.0.{number}.0/24"), 7) for number in range(6)]
ROUTES = [Route(device="eth0"), Route(device="loom.vxlan")]


@st.composite
def parts(draw: st.DrawFn) -> Tables:
    """Some say what others say, too."""
    routes = draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ROUTES), max_size=3))
    return Tables(routes=routes, problems=draw(st.sampled_from([[], [], ["no way there"]])))


def together(base: Tables, groups: dict[int, Tables]) -> Tables:
    tables = Tables()
    for part in (base, *(groups[number] for number in sorted(groups))):
        tables.add(part)
    return tables


@given(st.lists(st.tuples(st.one_of(st.none(), parts()), st.dictionaries(st.integers(0, 4), parts(), max_size=3)), max_size=8))
def test_what_is_known_from_before_changes_nothing(steps: list[tuple[Tables | None, dict[int, Tables]]]) -> None:
    merged, base, groups = Merged(), Tables(), dict[int, Tables]()
    for other, changed in steps:
        base, groups = other or base, groups | changed
        assert merged.of(base, changed) == together(base, groups)


def test_a_table_of_which_nothing_has_changed_stays_the_same_object() -> None:
    merged, base = Merged(), Tables()
    first = merged.of(base, {0: Tables(routes={KEYS[0]: ROUTES[0]}), 1: Tables(routes={KEYS[1]: ROUTES[0]})})
    again = merged.of(base, {0: Tables(routes={KEYS[0]: Route(device="eth0")})})
    assert again.routes is first.routes
    assert again.fdb is first.fdb


def test_one_in_which_something_has_changed_tells_what() -> None:
    merged, base = Merged(), Tables()
    first = merged.of(base, {0: Tables(routes={KEYS[0]: ROUTES[0]}), 1: Tables(routes={KEYS[1]: ROUTES[0]})})
    later = merged.of(base, {1: Tables(routes={KEYS[2]: ROUTES[1]})})
    assert later.routes == {KEYS[0]: ROUTES[0], KEYS[2]: ROUTES[1]}
    assert isinstance(later.routes, Edited)
    assert {*(later.routes.since(first.routes) or ())} == {KEYS[1], KEYS[2]}
