from __future__ import annotations

import socket
from pathlib import Path

import pytest

from netloom.agent.notify import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + path if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if abstract else path)
        notify("READY=1")
        listener.settimeout(30)
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", [None, "", "/nowhere/notify", "@nobody", "x" * 500])
def test_nobody_who_listens_is_no_trouble(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    if path is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("STOPPING=1")
