"""Tables of many nodes put together: whatever changed since the last time, they are what they would be if nothing were remembered."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

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


def together(base: Tables, named: Mapping[str, Tables]) -> Tables:
    tables = Tables()
    for part in (base, *(named[name] for name in sorted(named))):
        tables.add(part)
    return tables


def made_of(base: Tables, named: Mapping[str, Tables]) -> Merged:
    merged = Merged()
    merged.anew(base, sorted(named.items()))
    return merged


names = st.sampled_from("abcde")


@given(st.lists(st.tuples(st.one_of(st.none(), parts()), st.dictionaries(names, parts(), max_size=3)), max_size=12))
def test_what_is_edited_is_what_is_put_together_anew(steps: list[tuple[Tables | None, dict[str, Tables]]]) -> None:
    merged, base, named = Merged(), Tables(), dict[str, Tables]()
    for other, changed in steps:
        base, before, named = other or base, named, named | changed
        if not merged.edit(base, {name: (before.get(name, Tables()), part) for name, part in changed.items()}):
            merged.anew(base, sorted(named.items()))
        assert merged.whole == together(base, named)


@given(st.dictionaries(names, parts(), max_size=3), st.dictionaries(names, parts(), max_size=3))
def test_what_nobody_says_twice_can_be_edited(before: dict[str, Tables], now: dict[str, Tables]) -> None:
    def apart(named: Mapping[str, Tables]) -> bool:
        keys = [key for part in named.values() for key in part.routes]
        return len(keys) == len({*keys})

    merged = made_of(Tables(), before)
    changes = {name: (before.get(name, Tables()), now.get(name, Tables())) for name in before.keys() | now.keys()}
    assert merged.edit(Tables(), changes) is (apart(before) and apart(now))


def test_a_table_of_which_nothing_has_changed_stays_the_same_object() -> None:
    one, other = Tables(routes={KEYS[0]: ROUTES[0]}), Tables(routes={KEYS[1]: ROUTES[0]})
    merged = made_of(Tables(), {"a": one, "b": other})
    first = merged.whole
    assert merged.edit(Tables(), {"a": (one, Tables(routes={KEYS[0]: Route(device="eth0")}))})
    assert merged.whole.routes is first.routes
    assert merged.whole.fdb is first.fdb


def test_one_in_which_something_has_changed_tells_what() -> None:
    one, other = Tables(routes={KEYS[0]: ROUTES[0]}), Tables(routes={KEYS[1]: ROUTES[0]})
    merged = made_of(Tables(), {"a": one, "b": other})
    first = merged.whole
    assert merged.edit(Tables(), {"b": (other, Tables(routes={KEYS[2]: ROUTES[1]}))})
    later = merged.whole
    assert later.routes == {KEYS[0]: ROUTES[0], KEYS[2]: ROUTES[1]}
    assert isinstance(later.routes, Edited)
    assert {*(later.routes.since(first.routes) or ())} == {KEYS[1], KEYS[2]}
