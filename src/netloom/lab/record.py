"""What a lab has made, on disk before it is made: so another process can list, enter and remove it, whatever happened.

    /run/netloom-lab/<lab>/lab.json        the record: topology and sandboxes
                          /datastore.db    the cluster's datastore, where it has no etcd (see `stores`)
                          /responder.log
                          /<node>/run      the agent's sockets and journal       (its `runDir`)
                          /<node>/state    block claims and identity             (its `stateDir`)
                          /<node>/agent.yaml, agent.log, bird.log, notify
    /run/netns/<lab>-<place>               a network namespace per switch, router, node and pod

Every name follows from the topology, so a record that holds the topology covers all namespaces and folders; processes carry
their mark (see processes).  Whoever brings a lab up or down holds a lock on its folder; the kernel drops it with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import msgspec

from netloom.errors import ConfigError, NotFound
from netloom.lab.topology import Topology, check_place_name
from netloom.model.addresses import Interface
from netloom.model.resources import dec_hook

ROOT = "/run/netloom-lab"
NAMESPACES = "/run/netns"
_PATIENCE = 2.0


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's attachment.  `addresses` are empty until ADD has answered."""

    container_id: str
    addresses: tuple[Interface, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`complete`: `up` came to its end."""

    topology: Topology
    sandboxes: Mapping[str, Sandbox] = {}
    complete: bool = False

    @property
    def name(self) -> str:
        return self.topology.name

    def places(self) -> tuple[str, ...]:
        """Whatever has a network namespace."""
        t = self.topology
        return tuple(part.name for parts in (t.switches, t.routers, t.nodes, t.etcd, t.pods) for part in parts)


_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(Record, dec_hook=dec_hook)


def folder(lab: str, *below: str) -> str:
    return "/".join((ROOT, lab, *below))


def namespace_path(lab: str, place: str) -> str:
    return f"{NAMESPACES}/{lab}-{place}"


def names() -> list[str]:
    """All labs on this machine, also half-made ones."""
    with suppress(FileNotFoundError):
        return sorted(os.listdir(ROOT))
    return []


def read(lab: str) -> Record:
    """Raises NotFound if there is no such lab, ConfigError if its record is of no use."""
    check_lab_name(lab)
    try:
        with open(folder(lab, "lab.json"), "rb") as file:
            return _decoder.decode(file.read())
    except FileNotFoundError as e:
        raise NotFound(f"there is no lab {lab!r}", hint="see them all: netloom lab ls" if names() else "netloom lab up") from e
    except (OSError, msgspec.MsgspecError) as e:
        raise ConfigError(f"the record of lab {lab!r} cannot be read: {e}", hint=f"netloom lab down {lab}") from e


def write(record: Record) -> None:
    path = folder(record.name, "lab.json")
    with open(path + ".new", "wb") as file:
        file.write(_encoder.encode(record))
    os.replace(path + ".new", path)


def the_only_one(lab: str | None, to_name_one: str = "--lab") -> str:
    """The lab that is meant when none is named.  `to_name_one`: what to type before a name.  Raises NotFound, ConfigError."""
    if lab is not None:
        return lab
    known = names()
    if len(known) == 1:
        return known[0]
    if known:
        raise ConfigError(f"there are several labs: {', '.join(known)}", hint=f"name one: {to_name_one} {known[0]}")
    raise NotFound("there is no lab", hint="netloom lab up")


@contextmanager
def locked(lab: str) -> Iterator[None]:
    """Alone with the lab's folder, which is made where it is missing."""
    check_lab_name(lab)
    descriptor = _lock_folder(lab)
    try:
        yield
    finally:
        os.close(descriptor)


def remove_folder(lab: str) -> None:
    shutil.rmtree(folder(lab), ignore_errors=False)
    with suppress(OSError):  # other labs are still there
        os.rmdir(ROOT)


def check_lab_name(lab: str) -> None:
    try:
        check_place_name(lab)
    except ValueError as e:
        raise ConfigError(str(e), hint="see what there is: netloom lab ls") from e


def _lock_folder(lab: str) -> int:
    """Waits a little: a child that was just forked off a killed `up` holds its lock until it has become another program."""
    path, deadline = folder(lab), time.monotonic() + _PATIENCE
    while True:
        with suppress(FileNotFoundError, BlockingIOError), ExitStack() as undo:
            os.makedirs(path, mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else who held the lock has taken the folder away
                undo.pop_all()
                return descriptor
        if time.monotonic() > deadline:
            raise ConfigError(f"lab {lab!r} is being brought up or down by another process", hint="try again in a moment")
        time.sleep(0.02)
