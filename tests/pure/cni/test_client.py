"""What the Python client has beyond its duties (tests/kernel/cni/test_clients.py): a last resort, and how little it imports."""

from __future__ import annotations

import json
import subprocess

import pytest

from netloom.cni import client


@pytest.mark.parametrize("fault", [MemoryError, KeyboardInterrupt, RecursionError, AssertionError, SystemExit])
def test_whatever_happens_the_runtime_reads_one_error_document(
    fault: type[BaseException], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise fault

    monkeypatch.setattr(client, "main", fail)
    assert client.run() == 1
    output, error = capfd.readouterr()
    assert error == ""
    assert json.loads(output)["code"] >= 100


def test_it_imports_nothing_that_has_to_be_searched_for() -> None:
    """Beyond what the interpreter itself loads with the same flags."""
    code = f"import sys; before = set(sys.modules); exec(open({client.__file__!r}).read(), {{'__name__': 'client'}})"
    show = "; print(*set(sys.modules) - before)"
    done = subprocess.run(["/usr/bin/python3", "-ISB", "-c", code + show], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"_socket", "posix", "select", "time"}


def test_the_flags_keep_the_environment_and_site_packages_out() -> None:
    """A PYTHONPATH or a .pth file of the host must not reach a root process that runs for every pod."""
    with open(client.__file__) as source:
        assert source.readline() == "#!/usr/bin/python3 -ISB\n"
