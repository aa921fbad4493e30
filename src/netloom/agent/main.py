"""The agent as a process: from settings to a running `Agent`, and to its end by a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import stat
import sys

from netloom.agent import heap
from netloom.agent.alone import hold_namespace
from netloom.agent.identity import boot_id, load_identity
from netloom.agent.node import Agent
from netloom.agent.notify import notify
from netloom.agent.reaching import Reached
from netloom.agent.rebuilding import attachments_of, completed, of_networks, publishing
from netloom.agent.remembering import Memory
from netloom.config import Settings
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink
from netloom.errors import ConfigError, DatastoreError, JournalDamaged
from netloom.ipam.journal import Journal
from netloom.model.attachments import NetnsId
from netloom.model.resources import Endpoint

log = logging.getLogger(__name__)

_GARBAGE = 20_000  # objects between collections: little here is ever part of a cycle
_SWITCH = 0.0005  # seconds that another thread may hold up the loop
_SYNC_PATIENCE = 10.0  # seconds that READY waits for the datastore's first word


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT.  Raises ConfigError for what the user has to mend."""
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    heap.keep_together()
    sys.setswitchinterval(_SWITCH)
    _allow_many_descriptors()
    asyncio.run(_run(settings))


def _allow_many_descriptors() -> None:
    """Each call under way holds two; the soft limit of 1024 is for programs that use select(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(settings: Settings) -> None:
    _make_directory(settings.run_dir)
    _make_directory(settings.state_dir)
    alone = hold_namespace()
    identity = load_identity(settings.state_dir)
    namespace = _own_netns()
    kernel = Netlink()
    journal = _open_journal(settings, namespace, kernel)
    agent = Agent(settings, identity, journal, kernel, namespace)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await agent.start()
    gc.freeze()  # what a start makes stays: the collector need not look at it again
    gc.set_threshold(_GARBAGE)
    try:
        await asyncio.wait_for(agent.settled.wait(), _SYNC_PATIENCE)
    except TimeoutError:
        log.warning("the datastore has not answered yet: pods are served from what is remembered")
        agent.settled.set()
    notify("READY=1")
    try:
        await agent.run(stopping)
    finally:
        notify("STOPPING=1")
        await agent.stop()
        alone.close()


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as e:
        raise ConfigError(f"cannot be made: {e.strerror}", where=path) from e
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError("others may write there", where=path, hint=f"chown root: {path}; chmod 0700 {path}")


def _own_netns() -> NetnsId:
    fd = netns.own()
    try:
        return netns.identify(fd)
    finally:
        os.close(fd)


def _open_journal(settings: Settings, namespace: NetnsId, kernel: Netlink) -> Journal:
    path = f"{settings.run_dir}/journal"
    try:
        return Journal.open(path, boot_id(), namespace)
    except JournalDamaged as e:
        attachments = publishing(attachments_of(kernel))
        if attachments:
            attachments = completed(attachments, _endpoints(settings))
            attachments = of_networks(attachments, Memory(settings.state_dir).recall().pools.values())
        if os.path.exists(path) or attachments:
            log.warning("%s; made anew from the kernel's links: %d attachments", e, len(attachments))
        return Journal.rebuild(path, boot_id(), namespace, attachments)


def _endpoints(settings: Settings) -> list[Endpoint]:
    """As this node has published them; none where the datastore is away."""
    datastore = Reached(settings.target, known=True)
    try:
        found = [stored.resource for stored in datastore.list("Endpoint").items]
    except DatastoreError as e:
        log.warning("names and labels of pods are not known: %s", e)
        return []
    finally:
        datastore.close()
    return [e for e in found if isinstance(e, Endpoint) and e.spec.node == settings.node_name]
