"""Who this node is: an incarnation (UUID) and a VTEP MAC, made once and kept in STATE_DIR/node.json.

The MAC must survive a reboot, since every peer has it in permanent entries; it is derived from the incarnation, so a node that
is made anew under its old name is another one to its peers.  `boot_id` tells one boot from the next.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import Annotated

import msgspec

from netloom.durable import write_durably
from netloom.errors import ConfigError
from netloom.model.addresses import Mac, mac_text

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1)]

    @property
    def vtep_mac(self) -> Mac:
        """Locally administered (0x66, as Calico's), then five octets of the incarnation's hash."""
        return mac_text(b"\x66" + hashlib.sha1(self.id.encode(), usedforsecurity=False).digest()[:5])


def load_identity(state_dir: str) -> Identity:
    """Reads the node's identity, or makes and keeps it.  Raises ConfigError where the directory cannot be used."""
    path = f"{state_dir}/node.json"
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        if not os.path.lexists(path):
            write_durably(path, msgspec.json.encode(Identity(str(uuid.uuid4()))))
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Identity)
    except (OSError, msgspec.MsgspecError) as e:
        hint = "restore the file, or remove it to start as a new node"
        raise ConfigError(f"the node's identity cannot be read or kept: {e}", where=path, hint=hint) from e


def boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
