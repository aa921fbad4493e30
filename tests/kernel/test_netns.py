from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane import netns


def links() -> set[str]:
    return set(os.listdir("/proc/self/net/dev_snmp6"))


def test_a_thread_is_inside_only_as_long_as_it_says(pod: int) -> None:
    home = netns.own()
    outside = netns.identify(home)
    with netns.entered(pod):
        inside = netns.own()
        assert netns.identify(inside) == netns.identify(pod)
        os.close(inside)
    again = netns.own()
    assert netns.identify(again) == outside != netns.identify(pod)
    os.close(home)
    os.close(again)


@pytest.mark.parametrize("kind", ["file", "fifo", "directory", "mount namespace"])
def test_only_a_network_namespace_is_taken_for_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/proc/self/ns/mnt")
    with pytest.raises(OSError) as e:
        netns.open_netns(str(path))
    assert e.value.errno == errno.EINVAL


def test_a_name_outlives_the_descriptor_and_is_taken_away_without_trace(tmp_path: Path, pod: int) -> None:
    path = str(tmp_path / "blue")
    netns.give_name(pod, path)
    fd = netns.open_netns(path)
    assert netns.identify(fd) == netns.identify(pod)
    os.close(fd)
    netns.take_name(path)
    netns.take_name(path)
    assert not os.path.exists(path)
    assert path not in subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
