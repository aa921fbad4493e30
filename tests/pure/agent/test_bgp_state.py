"""What is shown of BIRD's file: never a password, whoever has written it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netloom.agent.bgp_state import without_secrets
from netloom.bgp.rendering import CONTENT, render, render_for_people
from tests.bgp_configs import FABRIC, PASSWORD


def test_of_our_own_text_nothing_is_shown_that_tells_a_password() -> None:
    shown = without_secrets(render(FABRIC, {PASSWORD: "s3;cr#t} 'x'"}))
    assert "s3" not in shown
    assert f"define {CONTENT}" not in shown
    assert shown == without_secrets(render_for_people(FABRIC))


def test_resources_may_be_called_password() -> None:
    session = replace(FABRIC.sessions[0], origin="BGPPeer password", password=None)
    text = render(replace(FABRIC, sessions=(session,)), {})
    assert without_secrets(text) == "".join(line for line in text.splitlines(keepends=True) if CONTENT not in line)


@pytest.mark.parametrize(
    "text",
    [
        'protocol bgp a { neighbor 192.0.2.1 as 1; password "s3cret"; }',
        '\tpassword\t"s3cret";',
        'password\n    "s3cret";',
        'password "s3cret" { from "now"; };',
        "password s3cret;",
        '  password "s3cret',
    ],
)
def test_of_somebody_elses_text_no_password_is_shown(text: str) -> None:
    assert "s3cret" not in without_secrets(text)
    assert "(hidden)" in without_secrets(text)
