from __future__ import annotations

import os
from pathlib import Path

import pytest

from netloom.errors import ConfigError
from netloom.footprint.tree import Found, Tree


def test_what_is_put_is_found_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    tree, mask = Tree(str(tmp_path)), os.umask(0o077)
    try:
        tree.put("/plugin", b"code", 0o755)
    finally:
        os.umask(mask)
    assert tree.look("/plugin") == Found(b"code", 0o755)
    assert tree.look("/elsewhere/plugin") is None


@pytest.mark.parametrize("target", ["/outside", "../../../../../../../../outside", "/../outside"])
def test_a_link_in_an_image_leads_into_the_image(tmp_path: Path, target: str) -> None:
    image, outside = tmp_path / "image", tmp_path / "outside"
    outside.mkdir()
    (image / "outside").mkdir(parents=True)
    (image / "opt").symlink_to(target)
    Tree(str(image)).put("/opt/file", b"text", 0o644)
    assert (image / "outside" / "file").read_bytes() == b"text"
    assert list(outside.iterdir()) == []


def test_an_absolute_link_to_a_place_outside_is_a_place_inside(tmp_path: Path) -> None:
    image, outside = tmp_path / "image", tmp_path / "outside"
    image.mkdir()
    outside.mkdir()
    (image / "etc").symlink_to(outside)
    tree = Tree(str(image))
    assert tree.missing_directories("/etc/cni") == ["/etc", "/etc/cni"]
    assert tree.look("/etc/file") is None
    with pytest.raises(ConfigError, match="/etc/file: cannot be used: No such file"):
        tree.put("/etc/file", b"", 0o644)
    assert list(outside.iterdir()) == []


def test_a_link_at_the_place_itself_is_seen_and_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "plugin").symlink_to("/bin/true")
    tree = Tree(str(tmp_path))
    found = tree.look("/plugin")
    assert found is not None and found.content is None
    tree.put("/plugin", b"code", 0o755)
    assert not (tmp_path / "plugin").is_symlink()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match="/a/file: cannot be used: Too many levels of symbolic links"):
        Tree(str(tmp_path)).look("/a/file")


def test_a_file_where_a_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "opt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"/opt/cni: cannot be (used|looked at): Not a directory"):
        Tree(str(tmp_path)).missing_directories("/opt/cni")


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plugin")
    found = Tree(str(tmp_path)).look("/plugin")
    assert found is not None and found.content is None


def test_directories_go_when_they_are_empty(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    for path in tree.missing_directories("/a/b"):
        tree.make_directory(path)
    (tmp_path / "a" / "file").write_bytes(b"")
    assert tree.remove_directory("/a/b")
    assert not tree.remove_directory("/a/b")
    assert not tree.remove_directory("/a")


def test_removing_takes_what_a_killed_put_has_left(tmp_path: Path) -> None:
    (tmp_path / "plugin.new").write_bytes(b"ha")
    assert not Tree(str(tmp_path)).remove("/plugin")
    assert list(tmp_path.iterdir()) == []
