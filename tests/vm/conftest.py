"""Tests in `inside` run in a virtual machine with a stock Debian kernel; the others hold it in their hands (`vm`).

The machine is booted once for all of `inside`, by the first test that needs it, and again for each that holds it.  pytest collects
everything here, on the host; in place of running a test of `inside`, it waits for the reports that another pytest, in the machine, sends
of it.  So names, -k, -x and reports work as everywhere:

    ./test vm -- -k ipip
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.vm.machine import CHECKOUT, LIFETIME, Died, Vm, booted
from tests.vm.servant import PORT, say

INSIDE = Path(__file__).parent / "inside"
SILENCE = 300.0
"""No test inside may take longer, in seconds."""

_port = int(os.environ[PORT]) if PORT in os.environ else None
"""None: we are on the host."""


class _Held:
    """The machine of this run, if there is one."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.vm: Vm | None = None
        self.waiting = list[str]()
        self.died: Died | None = None

    def get(self, *, fresh: bool = False) -> Vm:
        """`fresh`: with nothing in it that is left of what ran there before."""
        if self.died:
            raise self.died
        try:
            if self.vm is None:
                self.vm = self.stack.enter_context(booted())
            elif fresh:
                self.vm.cut_power()
                self.vm.boot()
        except Died as e:
            self.died = e
            raise
        return self.vm


_held = _Held()


@pytest.fixture
def vm() -> Iterator[Vm]:
    yield _held.get(fresh=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What cuts the power comes last."""
    items.sort(key=lambda item: not _is_inside(item))


def pytest_sessionfinish() -> None:
    _held.stack.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if _port is not None or not _is_inside(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class _ToHost:
    """In the machine: each report goes out, and neither end knows pytest's format."""

    def __init__(self, config: pytest.Config, port: int) -> None:
        self._config, self._port = config, port

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        say(self._port, report=data)


def pytest_configure(config: pytest.Config) -> None:
    if _port is not None:
        config.pluginmanager.register(_ToHost(config, _port))


def _is_inside(item: pytest.Item) -> bool:
    return INSIDE in item.path.parents


def _reports(item: pytest.Item) -> Iterator[pytest.TestReport]:
    """Of one test; the last one is that of its teardown."""
    try:
        vm = _held.get()
        if not _held.waiting:
            _held.waiting = [each.nodeid for each in item.session.items if _is_inside(each)]
            _held.waiting = _held.waiting[_held.waiting.index(item.nodeid) :]
            vm.start(*_pytest(_held.waiting), seconds=LIFETIME)
        while True:
            heard = vm.hear(SILENCE)
            if "report" not in heard:
                raise vm.died(f"ended its tests with exit code {heard['ended']}:\n{heard['output']}\n")
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=heard["report"])
            yield report
            if report.when == "teardown":
                break
    except Died as e:
        _held.died = e
        yield _failed(item, str(e))
        return
    _held.waiting.remove(item.nodeid)
    if not _held.waiting:
        vm.hear(SILENCE)  # that it has ended


def _pytest(tests: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={CHECKOUT}", *tests]


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
