"""The first of the README's two commands, as a newcomer types it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.inventory import inventory

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("options", [(), ("--encapsulation", "bgp"), ("--wiring", "bridge")], ids=" ".join)
def test_the_demo_proves_the_four_rules_and_leaves_nothing(lab_name: str, options: tuple[str, ...]) -> None:
    before = inventory(lab_name)
    done = subprocess.run(
        [ROOT / "demo", "--name", lab_name, *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    proven = re.findall(r"^ok\s+(\d) .*?(\d+) of (\d+)$", done.stdout, re.MULTILINE)
    assert [rule for rule, _, _ in proven] == ["1", "2", "3", "4"]
    assert all(int(kept) == int(all_of_them) > 0 for _, kept, all_of_them in proven)
    assert inventory(lab_name) == before
