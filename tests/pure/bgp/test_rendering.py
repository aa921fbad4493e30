"""BgpConfig → bird.conf.  NETLOOM_RENDER=1 writes the files anew, for somebody to look at the difference."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netloom.bgp.rendering import blocks, content, goes_on, render, render_for_people
from netloom.errors import ConfigError
from netloom.model.routing import Bfd, BgpConfig, Change, Community, FilterRule, NextHop, RouteFilter, Secret, Session
from tests.bgp_configs import CONFIGS, FABRIC, MESH, PASSWORD, RENDERED, SECRETS, rendered
from tests.bird_syntax import tree


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_rendered_as_it_was_looked_at(name: str) -> None:
    text = render(CONFIGS[name], SECRETS, "node-a")
    if os.environ.get("NETLOOM_RENDER"):
        (RENDERED / f"{name}.conf").write_text(text)
    assert text == rendered(name)


def test_the_configs_use_every_field() -> None:
    """So no field is without its line in one of the files."""
    sessions = [session for config in CONFIGS.values() if config for session in config.sessions]
    for field in fields(Session):
        assert len({repr(getattr(session, field.name)) for session in sessions}) > 1, field.name
    for field in fields(BgpConfig):
        if field.name not in ("node", "router_id", "local_as", "plain", "own", "subnets", "addresses"):
            assert len({repr(getattr(config, field.name)) for config in CONFIGS.values() if config}) > 1, field.name
    rules = [
        rule for each in FABRIC.filters.values() for side in (each.imports, each.exports) for rs in side.values() for rule in rs
    ]
    for field in fields(FilterRule):
        assert len({repr(getattr(rule, field.name)) for rule in rules}) > 1, field.name


def test_equal_values_make_equal_text() -> None:
    assert render(replace(FABRIC), dict(SECRETS)) == render(FABRIC, SECRETS)


def test_the_text_says_its_own_fingerprint() -> None:
    one, other = render(MESH, {}), render(replace(MESH, draining=True), {})
    assert len(content(one)) == 32
    assert content(one) != content(other)
    assert content("log syslog all;") == ""


def test_each_session_has_a_part_of_its_own() -> None:
    parts = blocks(render(FABRIC, SECRETS))
    assert list(parts) == ["peer_tor", "peer_tor_6", "peer_far"]
    assert "neighbor 203.0.113.9 as 64999;" in parts["peer_far"]


def test_people_see_no_password() -> None:
    text = render_for_people(FABRIC)
    assert SECRETS[PASSWORD] not in text
    assert 'password "(hidden)";' in text


def test_things_are_defined_before_they_are_used() -> None:
    text = rendered("fabric")
    for name in ("POOLS4", "OWN4", "never4", "rules_rack_in_2_import4", "announce4", "to_kernel4", "session"):
        first = text.index(name)
        line = text[text.rindex("\n", 0, first) + 1 :]
        assert line.startswith(("define", "function", "filter", "template")), name


def test_next_hops_are_never_compared_with_a_set() -> None:
    """Which never holds in BIRD 2.0."""
    for name in CONFIGS:
        assert "bgp_next_hop ~ [" not in rendered(name)


def test_own_blocks_are_refused_before_any_rule_of_a_person() -> None:
    for line in rendered("fabric").splitlines():
        if "import filter" in line and "krt_source" not in line:
            assert line.split("{")[1].strip().startswith("never")


def test_bgp_that_is_off_keeps_the_kernels_protocols() -> None:
    """One that goes away with `persist` leaves its routes in the kernel."""
    text = rendered("off")
    assert "protocol kernel kernel4" in text and "protocol kernel kernel6" in text
    assert "protocol bgp" not in text and "protocol static" not in text


def test_a_withdrawn_node_tells_of_no_way_here() -> None:
    assert "function announce4() {\n}" in rendered("withdrawn")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"remote_as": 0}, "BGPPeer tor: 0 is not a number from 1 to 4294967295"),
        ({"password": Secret("nobody", "knows")}, "BGPPeer tor: its password is missing: key 'knows' of secret 'nobody'"),
        ({"filters": ("unheard",)}, "BGPPeer tor: there is no BGPFilter 'unheard'"),
        ({"families": ()}, "BGPPeer tor: it carries routes of no family"),
        ({"families": (5,)}, "BGPPeer tor: 5 is no family of IP"),
        ({"name": "a" * 64}, "BGPPeer tor: 'aaaaaaaaaaaa"),
        ({"source": ip_address("2001:db8::1")}, "BGPPeer tor: it cannot speak from 2001:db8::1 to 192.0.2.254"),
        ({"address": ip_address("fe80::1"), "source": None}, "BGPPeer tor: 'fe80::1' is not an address that can be written"),
        ({"passive": "yes"}, "BGPPeer tor: 'yes' is neither true nor false"),
        ({"hold_time": 2}, "BGPPeer tor: 2 is not a number from 3 to 65535"),
        ({"limit": -1}, "BGPPeer tor: -1 is not a number"),
    ],
)
def test_what_cannot_be_written_names_the_resource(change: dict[str, object], words: str) -> None:
    wrong = replace(FABRIC.sessions[0], **change)  # type: ignore[arg-type]  # fields of that class
    with pytest.raises(ConfigError) as caught:
        render(replace(FABRIC, sessions=(wrong,)), SECRETS)
    assert words in str(caught.value)


def test_two_sessions_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="has the same name for BIRD as 'Node node-b': 'mesh_node_b'"):
        render(replace(MESH, sessions=(MESH.sessions[0], MESH.sessions[0])), {})


def test_a_password_that_bird_cannot_be_told_is_refused_without_being_said() -> None:
    for password in ('with a "quote', "two\nlines", "", "x" * 81):
        with pytest.raises(ConfigError) as caught:
            render(FABRIC, {PASSWORD: password})
        assert "key 'password' of secret 'fabric'" in str(caught.value)
        assert not password or password not in str(caught.value)


def test_filters_whose_names_look_alike_stay_apart() -> None:
    rule = (FilterRule(False),)
    session = replace(MESH.sessions[0], filters=("a.b", "a-b"))
    text = render(
        replace(MESH, sessions=(session,), filters={"a.b": RouteFilter({4: rule}), "a-b": RouteFilter({4: rule})}), {}
    )
    assert "rules_a_b_2_import4(false); rules_a_b_import4(false); pools4();" in text
    assert text.count("function rules_a_b") == 2


def test_a_rule_without_conditions_ends_the_filter() -> None:
    change = (Change(add_community=Community((1, 2))),)
    filters = {"all": RouteFilter({4: (FilterRule(True, changes=change),)})}
    text = render(replace(MESH, sessions=(replace(MESH.sessions[0], filters=("all",)),), filters=filters), {})
    assert "    bgp_community.add((1, 2)); accept;\n" in text


def test_a_length_that_no_prefix_can_have_is_refused() -> None:
    rule = FilterRule(True, ip_network("10.0.0.0/16"), lengths=(8, 12))
    session = replace(MESH.sessions[0], filters=("short",))
    with pytest.raises(ConfigError, match=r"no prefix in 10\.0\.0\.0/16 is"):
        render(replace(MESH, sessions=(session,), filters={"short": RouteFilter({4: (rule,)})}), {})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_text_is_a_tree(name: str) -> None:
    assert tree(rendered(name))


@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        ({"filters": ()}, True),
        ({"limit": 17}, True),
        ({"bfd": Bfd(interval=100)}, True),
        ({"bfd": None}, True),
        ({"hold_time": 45}, False),
        ({"remote_as": 64999}, False),
        ({"address": ip_address("192.0.2.77")}, False),
        ({"next_hop": NextHop.KEEP}, False),
    ],
)
def test_a_session_goes_on_where_only_its_filters_its_limit_or_bfd_change(fields: dict[str, Any], stays: bool) -> None:
    [session] = FABRIC.sessions[:1]
    before, after = (
        blocks(render(replace(FABRIC, sessions=(each,)), SECRETS))[session.name]
        for each in (replace(session, bfd=Bfd()), replace(session, **{"bfd": Bfd(), **fields}))
    )
    assert before != after and goes_on(before, after) is stays
