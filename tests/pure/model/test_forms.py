"""Forms as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.forms import Form, Method, parse_form

forms = (
    st.sampled_from([Form(Method.NONE), Form(Method.IPIP)])
    | st.builds(Form, st.just(Method.VXLAN), st.integers(1, (1 << 24) - 1), st.integers(1, 65535))
    | st.builds(Form, st.just(Method.UDP), st.just(0), st.integers(1, 65535))
)


@given(forms)
def test_a_form_is_read_as_it_was_written(form: Form) -> None:
    assert parse_form(str(form)) == form


@pytest.mark.parametrize(
    "text", ["", "vxlan:1:2", "VXLAN", "VXLAN:0:4789", "VXLAN:16777216:4789", "UDP:65536", "UDP:0", "IPIP\n", "UDP:٣"]
)
def test_what_is_no_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"form|range"):
        parse_form(text)


@given(st.text(max_size=20))
def test_no_text_makes_reading_fail_in_another_way(text: str) -> None:
    try:
        form = parse_form(text)
    except ValueError:
        return
    assert str(form) == text or text.startswith(("VXLAN:0", "UDP:0"))
