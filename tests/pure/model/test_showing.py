from __future__ import annotations

import ipaddress

import pytest

from netloom.model.showing import shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        ([1, "a", None], '[1, "a", null]'),
        ({"ipMasq": False}, '{"ipMasq": false}'),
        ("", "''"),
        ("plain", "'plain'"),
        ("it's", '"it\'s"'),
        ("a == 'b'", """"a == 'b'\""""),
        ('say "so"', "'say \"so\"'"),
        ("zwölf\n\x1b[1m", r"'zwölf\n\u001b[1m'"),
        (ipaddress.ip_address("10.0.0.1"), '"10.0.0.1"'),
    ],
)
def test_values_stand_in_messages_as_people_write_them(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_what_is_long_is_cut() -> None:
    assert shown("x" * 10_000) == f"'{'x' * 79}…'"
    assert len(shown(list(range(10_000)))) == 80
