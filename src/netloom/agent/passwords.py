"""Passwords: those that a BgpConfig names, looked up for the text that has them in it, and held nowhere else.

    {stateDir}/secrets/NAME/KEY     a file of this node, root's alone; it counts first, and it may differ from node to node
    Secret NAME in the datastore    its key KEY

A file's last line end is not part of the password.  What is not there is left out: the writer says which session misses it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from netloom.errors import ConfigError
from netloom.model import secret
from netloom.model.routing import BgpConfig, Secret
from netloom.model.validation import check_object_name, check_secret_key

FOLDER = "secrets"
_MOST = 4096  # bytes


def passwords(config: BgpConfig | None, state_dir: str, told: Mapping[str, secret.Secret]) -> dict[Secret, str]:
    """Raises ConfigError for a file that others may read."""
    wanted = {session.password for session in config.sessions if session.password} if config else set()
    found = {}
    for each in wanted:
        value = _of_file(f"{state_dir}/{FOLDER}", each)
        if value is None and each.name in told:
            value = told[each.name].value(each.key)
        if value is not None:
            found[each] = _text(value, each)
    return found


def _of_file(folder: str, wanted: Secret) -> bytes | None:
    check_object_name(wanted.name, "a secret's name")
    check_secret_key(wanted.key, "a secret's key")
    path = f"{folder}/{wanted.name}/{wanted.key}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}", where=path) from e
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                "others than root may read this password, or it is no file", where=path, hint=f"chmod 0600 {path}"
            )
        value = os.read(fd, _MOST)
    finally:
        os.close(fd)
    return value.removesuffix(b"\n").removesuffix(b"\r")


def _text(value: bytes, wanted: Secret) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"key {wanted.key} is no text in UTF-8", where=f"Secret {wanted.name}") from None
