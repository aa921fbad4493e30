from __future__ import annotations

import base64
import os
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from netloom.agent.passwords import passwords
from netloom.errors import ConfigError
from netloom.model import secret
from netloom.model.resources import Metadata
from netloom.model.routing import BgpConfig, Secret
from tests.bgp_configs import MESH

WANTED = Secret("fabric", "password")
CONFIG = replace(MESH, sessions=(replace(MESH.sessions[0], password=WANTED), MESH.sessions[1]))


def told(value: bytes, key: str = "password") -> dict[str, secret.Secret]:
    return {"fabric": secret.Secret(metadata=Metadata(name="fabric"), data={key: base64.b64encode(value).decode()})}


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "secrets/fabric/password"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_only_those_that_are_named_are_looked_up(tmp_path: Path) -> None:
    assert passwords(CONFIG, str(tmp_path), {**told(b"staple"), "other": told(b"x")["fabric"]}) == {WANTED: "staple"}
    assert passwords(None, str(tmp_path), told(b"staple")) == {}
    assert passwords(BgpConfig("a", IPv4Address(1), 1), str(tmp_path), told(b"staple")) == {}


def test_a_file_of_this_node_counts_first_and_its_last_line_end_does_not(tmp_path: Path) -> None:
    write(tmp_path, "of this node\n")
    assert passwords(CONFIG, str(tmp_path), told(b"of the cluster")) == {WANTED: "of this node"}


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert passwords(CONFIG, str(tmp_path), {}) == {}
    assert passwords(CONFIG, str(tmp_path), told(b"x", key="another")) == {}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path, "canary", mode)
    with pytest.raises(ConfigError, match="others than root may read") as caught:
        passwords(CONFIG, str(tmp_path), {})
    assert "canary" not in caught.value.sentence
    assert caught.value.hint is not None and "chmod 0600" in caught.value.hint


def test_a_link_a_folder_and_a_fifo_are_no_passwords(tmp_path: Path) -> None:
    path = write(tmp_path, "x")
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(ConfigError):
        passwords(CONFIG, str(tmp_path), {})
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError):
        passwords(CONFIG, str(tmp_path), {})
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError):
        passwords(CONFIG, str(tmp_path), {})


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Secret fabric: key password is no text"):
        passwords(CONFIG, str(tmp_path), told(b"\xff\xfe"))


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    for wanted in (Secret(name, "password"), Secret("fabric", name)):
        with pytest.raises(ValueError, match="is no"):
            passwords(replace(CONFIG, sessions=(replace(MESH.sessions[0], password=wanted),)), str(tmp_path), {})
