"""A real etcd for tests: one member, or a cluster, each with data of its own that goes with it.

    with etcd() as server:                       one member in `loopback()`, a namespace of this process that has only `lo`
        server.urls                              http://127.0.1.1:2379
        server.ctl("put", "/a", "b")             etcdctl, as a client that may do everything
        server.member().send(signal.SIGSTOP)
    with etcd(size=3) as cluster:                127.0.2.1 to 127.0.2.3
        cluster.member(1).kill(); cluster.member(1).start()
    with etcd(places=[Place(fd, "10.1.1.1"), …]) as cluster:     where a test wants them, so that it can part them

gRPC's own threads are born in the namespace of the thread that used it first, and stay there.  So whoever uses the datastore in
the test's own process does so inside `loopback()` alone (`with inside():`); for other namespaces start processes there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache

from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, set_link
from netloom.lab import daemons, processes
from netloom.lab.certificates import Authority, Certificate
from netloom.lab.etcd import Secured, member, program, url

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where fsync costs nothing."""
_LOOPBACK = 1
_GRACE = 10.0
_ALONE = ("--heartbeat-interval=20", "--election-timeout=200")
"""Nobody else could be elected, so it need not wait for long."""
_numbers = itertools.count(1)
"""Of clusters; each has addresses of its own, so that several can run at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member runs: a namespace by descriptor, and its address there."""

    namespace: int
    address: str


@cache
def loopback() -> int:
    """A namespace with `lo`, the same for the whole life of this process."""
    made = netns.create()
    with Netlink(made) as kernel:
        kernel.transact(set_link(_LOOPBACK, up=True))
    return made


@contextmanager
def inside() -> Iterator[None]:
    """The calling thread, and those that it starts, are in `loopback()`."""
    with netns.entered(loopback()):
        yield


@dataclass(frozen=True, slots=True)
class Member:
    lab: str
    name: str
    url: str
    daemon: daemons.Daemon

    def start(self, timeout: float = 60.0) -> None:
        """Returns when it serves."""
        daemons.start(self.lab, [self.daemon], timeout)

    def begin(self) -> None:
        """The same, and does not wait: one that is alone without the others never serves."""
        with netns.entered(int(os.path.basename(self.daemon.namespace or ""))):
            environment = processes.marked(self.lab, self.daemon.role, self.daemon.place)
            processes.spawn(list(self.daemon.arguments), environment, self.daemon.log)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Returns when it is gone.  One that was stopped goes on first."""
        self.send(signal.SIGCONT)
        processes.end(self.lab, _GRACE, self.daemon.role, self.name, number)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT: what does not end it."""
        with processes.found(self.lab, self.daemon.role, self.name) as found:
            for process in found:
                process.signal(number)

    def wipe(self) -> None:
        """Its data, while it does not run."""
        shutil.rmtree(f"{self.daemon.folder}/data")

    def log(self) -> str:
        with open(self.daemon.log, encoding="utf-8", errors="replace") as file:
            return file.read()


@dataclass(slots=True)
class Etcd:
    """`authority` None: without TLS.  `admin`: what `ctl` shows of itself."""

    folder: str
    namespace: int
    members: Sequence[Member]
    authority: Authority | None = None
    admin: Certificate | None = None
    credentials: list[str] = field(default_factory=list)

    @property
    def urls(self) -> str:
        """Of all members, with commas."""
        return ",".join(each.url for each in self.members)

    def member(self, number: int = 0) -> Member:
        return self.members[number]

    def issue(self, name: str) -> Certificate:
        """A client's certificate."""
        assert self.authority is not None
        return self.authority.issue(name)

    def ctl(self, *arguments: str, input: bytes | None = None) -> str:  # noqa: A002 (subprocess's word)
        """What etcdctl prints; CalledProcessError if it fails.  `credentials`: ["--user=root:secret"]."""
        tls: tuple[str, ...] = ()
        if self.authority and self.admin:
            tls = (f"--cacert={self.authority.file}", f"--cert={self.admin.certificate}", f"--key={self.admin.key}")
        command = [program("etcdctl"), f"--endpoints={self.urls}", "--command-timeout=20s", *tls, *self.credentials, *arguments]
        with netns.entered(self.namespace):
            done = subprocess.run(command, input=input, capture_output=True, check=False, env=_CTL)
        if done.returncode != 0:
            raise AssertionError(f"etcdctl {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")


_CTL = {"ETCDCTL_API": "3", "PATH": os.environ.get("PATH", os.defpath)}


@contextmanager
def etcd(
    *, size: int = 1, places: Sequence[Place] = (), tls: bool = False, ask: bool = True, options: Sequence[str] = ()
) -> Iterator[Etcd]:
    """Runs until the block ends.  `tls`: with certificates, and `ask` clients for theirs; `options`: more flags for each member."""
    number = next(_numbers) % 250
    places = places or [Place(loopback(), f"127.0.{number}.{i + 1}") for i in range(size)]
    if len(places) == 1:
        options = [*_ALONE, *options]
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="nl-etcd-", dir=FAST)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        authority, secured, admin = None, None, None
        if tls:
            authority = Authority(f"{folder}/tls")
            own = authority.issue("server", addresses=[*(place.address for place in places), "localhost"])
            secured, admin = Secured(authority.file, own, ask), authority.issue("root")
        lab = os.path.basename(folder)
        stack.callback(_end_all, lab)
        names = {f"member-{i}": place.address for i, place in enumerate(places)}
        members = [
            Member(
                lab,
                name,
                url(place.address, tls=tls),
                member(
                    *(name, names),
                    folder=f"{folder}/{name}",
                    namespace=f"/proc/self/fd/{place.namespace}",
                    secured=secured,
                    options=options,
                ),
            )
            for name, place in zip(names, places, strict=True)
        ]
        daemons.start(lab, [each.daemon for each in members], 60.0)
        yield Etcd(folder, places[0].namespace, members, authority, admin)


def _end_all(lab: str) -> None:
    with processes.found(lab) as found:
        for process in found:
            process.signal(signal.SIGCONT)
    processes.end(lab, _GRACE, first=signal.SIGKILL)
