from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest

from netloom.agent.identity import Identity, boot_id, load_identity
from netloom.errors import ConfigError
from netloom.model.addresses import parse_mac


def test_an_identity_is_made_once_and_stays(tmp_path: Path) -> None:
    first = load_identity(str(tmp_path))
    assert load_identity(str(tmp_path)) == first
    assert str(uuid.UUID(first.id)) == first.id
    assert stat.S_IMODE((tmp_path / "node.json").stat().st_mode) == 0o600


def test_two_nodes_are_two(tmp_path: Path) -> None:
    assert load_identity(str(tmp_path / "a")).id != load_identity(str(tmp_path / "b")).id


def test_the_tunnel_mac_follows_from_the_incarnation() -> None:
    one = Identity("54718e98-e1f6-4fe7-a7e3-806a149d0332")
    assert one.vtep_mac == Identity(one.id).vtep_mac
    assert one.vtep_mac != Identity("54718e98-e1f6-4fe7-a7e3-806a149d0333").vtep_mac
    assert parse_mac(one.vtep_mac) == one.vtep_mac
    assert int(one.vtep_mac[:2], 16) & 3 == 2, "locally administered, unicast"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 7}', b'{"id": ""}', b'{"id": "x", "more": 1}', b"\xff"])
def test_a_damaged_identity_is_never_made_anew_by_itself(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"node\.json: the node's identity cannot be read or kept") as caught:
        load_identity(str(tmp_path))
    assert "restore the file" in (caught.value.hint or "")
    assert path.read_bytes() == content


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="state"):
        load_identity(str(tmp_path / "state"))


def test_an_identity_that_cannot_be_kept_is_not_used(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "node.json.new")  # in the way of the temporary file
    with pytest.raises(ConfigError, match=r"node\.json"):
        load_identity(str(tmp_path))


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id()
    assert uuid.UUID(boot_id())
