from __future__ import annotations

import pytest

from netloom.datastore.sqlite_file import NETWORK_FILE_SYSTEMS, mounted_type, refuse_network_file_system
from netloom.errors import Unavailable


@pytest.mark.parametrize("file_system", sorted(NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_is_refused_by_name(file_system: str) -> None:
    with pytest.raises(Unavailable, match=f"/srv/store.db lies on {file_system}, ") as e:
        refuse_network_file_system("/srv/store.db", file_system)
    assert e.value.hint == "use a local disk"


@pytest.mark.parametrize("file_system", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "virtiofs", None])
def test_a_local_file_system_is_taken(file_system: str | None) -> None:
    refuse_network_file_system("/srv/store.db", file_system)


def test_the_type_of_a_mounted_file_system_is_read_from_the_mount_table() -> None:
    assert mounted_type("/proc") == "proc"
    assert mounted_type("/sys") == "sysfs"
