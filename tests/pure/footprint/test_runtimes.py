from __future__ import annotations

from pathlib import Path

import pytest

from netloom.errors import ConfigError
from netloom.footprint.runtimes import Runtime, find, major_of, parse
from netloom.footprint.tree import Tree

DEBIAN = """
version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
"""
SECOND = """
version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/srv/cni/bin', '/opt/cni/bin']
  conf_dir = '/srv/cni/net.d'
"""


def test_debians_containerd_looks_in_usr_lib_cni() -> None:
    assert parse(DEBIAN) == Runtime("/usr/lib/cni", "/etc/cni/net.d", 0, config=True)


def test_containerd_2_has_several_directories_and_speaks_1_1() -> None:
    runtime = parse(SECOND)
    assert runtime == Runtime("/srv/cni/bin", "/srv/cni/net.d", 2, config=True)
    assert runtime.cni_version == "1.1.0"


@pytest.mark.parametrize(
    "text", ["", "version = 2", "plugins = 3", "[plugins.'io.containerd.grpc.v1.cri']\ncni = []", "imports = ['x']"]
)
def test_what_says_nothing_is_as_everybody_has_it(text: str) -> None:
    runtime = parse(text)
    assert runtime == Runtime(config=True)
    assert runtime.cni_version == "1.0.0"


@pytest.mark.parametrize("value", ['"bin"', "7", '""', "[]"])
def test_a_directory_that_is_none_is_passed_over(value: str) -> None:
    assert parse(f"[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = {value}").bin_dir == "/opt/cni/bin"


def test_a_configuration_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/etc/containerd/config.toml: is not TOML"):
        parse("version = = 2")


@pytest.mark.parametrize(
    ("answer", "major"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1\n", 1),
        ("containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4\n", 2),
        ("containerd github.com/containerd/containerd/v2 2.1.4~ds1 2.1.4~ds1-2\n", 2),
        ("", 0),
        ("no such thing\n", 0),
    ],
)
def test_containerd_says_which_one_it_is(answer: str, major: int) -> None:
    assert major_of(answer) == major


def test_an_image_is_read_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "etc" / "containerd").mkdir(parents=True)
    (tmp_path / "etc" / "containerd" / "config.toml").write_text(SECOND)
    assert find(Tree(str(tmp_path))) == Runtime("/srv/cni/bin", "/srv/cni/net.d", 2, config=True)
