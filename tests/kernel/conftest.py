"""Kernel tests run in namespaces of their own; the host's network is never touched."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from netloom.dataplane import netns
from tests.agent_process import logs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with what the agents have said."""
    report = yield
    if report.failed:
        report.sections += [(f"{folder}/agent.log", log) for folder, log in logs()]
    return report


@pytest.fixture
def node() -> Iterator[int]:
    """The test's thread is inside a fresh network namespace; the value is its descriptor."""
    fd = netns.create()
    try:
        with netns.entered(fd):
            yield fd
    finally:
        os.close(fd)


@pytest.fixture
def pod() -> Iterator[int]:
    """A second fresh namespace, by descriptor."""
    fd = netns.create()
    try:
        yield fd
    finally:
        os.close(fd)
