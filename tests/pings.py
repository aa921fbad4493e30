"""What ping has said: which of its questions nobody answered."""

from __future__ import annotations

import re

_IN_FLIGHT = 2
"""So many may be on their way when ping is told to end: it does not wait for their answers, and counts them as lost."""


def unanswered(said: str) -> set[int]:
    """Numbers of them; those that were in flight at the end are none."""
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) .*time=", said)}
    [asked] = re.findall(r"^(\d+) packets transmitted", said, re.MULTILINE)
    missing = set(range(1, int(asked) + 1)) - answered
    last = {number for number in missing if number > max(answered, default=0)}
    return missing - last if answered and len(last) <= _IN_FLIGHT else missing
