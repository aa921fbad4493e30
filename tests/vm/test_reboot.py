"""A node that lost its power comes back as the same node, with nothing to clear away by hand."""

from __future__ import annotations

import json
import sys

from tests.vm.life import Seen
from tests.vm.machine import Vm


def test_after_a_power_cut_claims_are_kept_and_every_address_is_free_at_once(vm: Vm) -> None:
    before = live(vm)
    vm.cut_power()
    vm.boot()
    after = live(vm, asking_for=before.pods)
    assert after.boot != before.boot
    assert after.pods == before.pods
    assert after.published == sorted(after.pods)
    assert after.claims == before.claims
    assert after.identity == before.identity


def live(vm: Vm, asking_for: list[list[str]] | None = None) -> Seen:
    arguments = [json.dumps(asking_for)] if asking_for else []
    output = vm.run(sys.executable, "-m", "tests.vm.life", *arguments, seconds=180)
    return Seen(**json.loads(output.splitlines()[-1]))
