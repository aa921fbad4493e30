from __future__ import annotations

import logging

import pytest

from netloom.agent.troubles import Troubles
from netloom.errors import Unavailable


@pytest.fixture
def troubles(caplog: pytest.LogCaptureFixture) -> Troubles:
    caplog.set_level(logging.DEBUG)
    return Troubles()


def test_a_trouble_is_told_once_however_often_it_is_reported(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        troubles.report("kernel", "routes 10.0.0.0/8: no such device")
    assert caplog.messages == ["kernel: routes 10.0.0.0/8: no such device"]
    assert troubles.standing == ("kernel: routes 10.0.0.0/8: no such device",)


def test_its_end_is_told_too(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    troubles.report("kernel", "a", "b")
    troubles.report("kernel", "b", "c")
    troubles.report("kernel")
    assert caplog.messages == ["kernel: a", "kernel: b", "kernel: c", "kernel: over: a", "kernel: over: b", "kernel: over: c"]
    assert troubles.standing == ()


def test_what_is_well_is_no_news(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    troubles.report("kernel")
    assert caplog.messages == []


def test_troubles_stand_side_by_side(troubles: Troubles) -> None:
    troubles.report("pass", "b")
    troubles.report("blocks", "a")
    troubles.report("pass", "c")
    assert troubles.standing == ("blocks: a", "pass: c")


def test_thousands_are_told_by_a_few_and_their_number(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    troubles.report("kernel", *(f"route {number}" for number in range(5000)))
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "kernel: and 4980 more"
    assert len(troubles.standing) == 21


def test_a_block_that_fails_is_a_trouble_and_goes_no_further(troubles: Troubles) -> None:
    for error in (Unavailable("away"), OSError(28, "No space left on device")):
        with troubles.about("remembering"):
            raise error
    assert troubles.standing == ("remembering: [Errno 28] No space left on device",)
    with troubles.about("remembering"):
        pass
    assert troubles.standing == ()


def test_a_fault_of_our_own_is_shown_with_its_traceback_once(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with troubles.about("pass"):
            raise ZeroDivisionError("division by zero")
    assert troubles.standing == ("pass: a fault of our own: ZeroDivisionError: division by zero",)
    assert caplog.text.count("Traceback") == 1


def test_an_order_to_end_is_no_trouble(troubles: Troubles) -> None:
    with pytest.raises(KeyboardInterrupt), troubles.about("pass"):
        raise KeyboardInterrupt
    assert troubles.standing == ()
