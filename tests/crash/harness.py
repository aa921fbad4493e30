"""Crash points: an operation is repeated, and each time the agent (or the client) is cut off at another of its system calls.

    the operation, cut before one call ─▶ agent started anew ─▶ what a runtime does then ─▶ what is left over: nothing

The first time it goes through uncut, which says what its points are; one that shows later is cut, too.  What a runtime does then is
what containerd does: a failed ADD is followed by DEL, then a new sandbox with a new ID; a failed DEL is repeated.  At every other
point its DEL comes while the agent is still away, else after it is back.

A bystander lives through all of it: it has to keep what it has.  Sandboxes stay until the end of a point, so an address that
is given to a second one while the first still shows it is seen in the kernel.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from netloom.dataplane import netns
from netloom.errors import NetloomError
from netloom.lab import daemons
from tests.agent_process import POOLS, Machine, Sandbox
from tests.cni_calls import CONFIG, NATIVE, Answer, Document, call, environment
from tests.crash.ptrace import Fail, Kill, Order, Point, Tracer
from tests.residue import Residue, addresses_in_use, blocks_of, quiet_residue, settled

_HALF_AN_ADD = Kill(Point("setns"))
"""The intent is journalled, and the link is there."""

_TRY_AGAIN = 11  # SPEC 1.1.0, "Error"
_STOPPED_FIRST = ("/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "stopped")


@dataclass(slots=True)
class World:
    """A machine whose agent is ready, a bystander on it, and what there is when all is well."""

    machine: Machine
    client: str
    config: Mapping[str, Any]  # Any: JSON
    bystander: Sandbox
    bystander_result: Document
    before: Residue

    def call(self, command: str, sandbox: Sandbox, result: Document | None = None) -> Answer:
        return call(self.client, command, self.machine.run_dir, sandbox.container_id, sandbox.path, self.configuration(result))

    def configuration(self, result: Document | None) -> Document:
        return {**self.config, "prevResult": result} if result else dict(self.config)

    def revive(self) -> None:
        if self.machine.pid is None:
            self.machine.start()


@contextmanager
def world(
    machine: Machine, client: str = NATIVE, config: Mapping[str, Any] = CONFIG, others: Sequence[Mapping[str, Any]] = ()
) -> Iterator[World]:
    """`others`: configurations that tests will use besides; blocks that their pods need belong to the picture."""
    with machine.sandbox() as bystander, machine.sandbox() as visitor:
        made = World(machine, client, config, bystander, {}, frozenset())
        deadline = time.monotonic() + 30
        while (answer := made.call("ADD", bystander)).error == _TRY_AGAIN:  # a new node may not be registered yet
            assert time.monotonic() < deadline, answer
        assert answer.ok, answer
        made.bystander_result = answer.document
        for other in others:
            made.config = other
            assert made.call("ADD", visitor).ok
            assert made.call("DEL", visitor).ok
        made.config = config
        machine.restart()  # what a start alone adds belongs to the picture
        made.before = quiet_residue(machine)
        yield made
        made.revive()
        assert made.call("DEL", bystander).ok


# Knives


class Knife(Protocol):
    """Makes a call and cuts as `order` says.  `hit`: where it cut, None if it never came there.  `seen`: what was done up to that.

    The call returns when nothing more happens: what is done after the answer counts, too."""

    order: Order | None
    hit: Point | None
    seen: list[str]

    def call(self, command: str, sandbox: Sandbox, result: Document | None = None) -> Answer: ...


@dataclass(slots=True)
class AgentKnife:
    here: World
    order: Order | None = None
    hit: Point | None = None
    seen: list[str] = field(default_factory=list)
    tracer: Tracer | None = None

    def call(self, command: str, sandbox: Sandbox, result: Document | None = None) -> Answer:
        tracer = self._attached()
        tracer.arm(self.order)
        answer = self.here.call(command, sandbox, result)
        tracer.settle()
        self.hit, self.seen = tracer.hit, tracer.points
        if not tracer.ended:
            tracer.arm(None)
        return answer

    def _attached(self) -> Tracer:
        if self.tracer is None or self.tracer.ended:
            pid = self.here.machine.pid
            assert pid is not None
            self.tracer = Tracer(pid, self.here.machine.folder)
        return self.tracer


@dataclass(slots=True)
class ClientKnife:
    """`down`: while the agent is away, so that a DEL lays a tombstone."""

    here: World
    order: Order | None = None
    hit: Point | None = None
    seen: list[str] = field(default_factory=list)
    down: bool = False

    def call(self, command: str, sandbox: Sandbox, result: Document | None = None) -> Answer:
        if self.down:
            self.here.machine.end(signal.SIGKILL)
        variables = environment(command, self.here.machine.run_dir, sandbox.container_id, sandbox.path)
        pipe = subprocess.PIPE
        arguments = [*_STOPPED_FIRST, self.here.client]
        process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=variables)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(self.here.configuration(result)).encode())
        process.stdin.close()
        os.waitpid(process.pid, os.WUNTRACED)
        with Tracer(process.pid, self.here.machine.folder) as tracer, process.stdout as stdout:
            tracer.arm(self.order)
            os.kill(process.pid, signal.SIGCONT)
            output = stdout.read()
            tracer.join()
        self.hit, self.seen = tracer.hit, tracer.points
        return Answer(process.wait(), output)


@dataclass(slots=True)
class StartKnife:
    """Cuts the agent's own start, from the first instruction on."""

    machine: Machine
    order: Order | None = None
    hit: Point | None = None
    seen: list[str] = field(default_factory=list)

    def start(self) -> None:
        daemon = self.machine.daemon()
        stopped = replace(daemon, arguments=[*_STOPPED_FIRST, *daemon.arguments])
        with ThreadPoolExecutor(1) as thread:
            started = thread.submit(daemons.start, self.machine.lab, [stopped])
            pid = _stopped_pid(self.machine)
            tracer = Tracer(pid, self.machine.folder)
            tracer.arm(self.order)
            os.kill(pid, signal.SIGCONT)
            with suppress(NetloomError):  # it ended before it was ready, as it should
                started.result()
            tracer.settle()
            self.hit, self.seen = tracer.hit, tracer.points
            if not self.hit:
                tracer.close()


def _stopped_pid(machine: Machine) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid = machine.pid
        if pid:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                if file.read().rpartition(")")[2].split()[0] == "T":
                    return pid
        time.sleep(0.002)
    raise AssertionError("the agent was not started")


# Operations: each gives the faults that it found


Operation = Callable[[World, Knife, int], list[str]]


def adding(here: World, knife: Knife, number: int) -> list[str]:
    with _sandboxes(here) as make:
        first = make()
        answer = knife.call("ADD", first)
        if answer.ok:
            here.revive()
            faults = _unless(here.call("CHECK", first, answer.document), "CHECK of a pod that was promised")
        else:
            faults = _malformed(answer)
            if number % 2 == 0:
                here.revive()
        faults += _unless(here.call("DEL", first), "DEL")
        here.revive()
        return faults + _afterwards(here, make, first)


def deleting(here: World, knife: Knife, number: int) -> list[str]:
    with _sandboxes(here) as make:
        first = make()
        result = here.call("ADD", first)
        assert result.ok, result
        answer = knife.call("DEL", first, result.document)
        if number % 2 == 0:
            here.revive()
        faults = [] if answer.ok else _malformed(answer) + _unless(here.call("DEL", first), "DEL, repeated")
        here.revive()
        return faults + _afterwards(here, make, first)


def collecting(here: World, knife: Knife, number: int) -> list[str]:
    """GC of a pod whose sandbox is gone; a runtime calls it again some time."""
    with _sandboxes(here) as make:
        gone = here.machine.make_sandbox()
        added = here.call("ADD", gone)
        here.machine.remove_sandbox(gone)
        assert added.ok, added
        _wait_for_the_end_of(here.machine, added.document["interfaces"][0]["name"])
        answer = knife.call("GC", gone)
        here.revive()
        faults = [] if answer.ok else _malformed(answer) + _unless(here.call("GC", gone), "GC, repeated")
        return faults + _afterwards(here, make, here.bystander)


def _wait_for_the_end_of(machine: Machine, link: str) -> None:
    """The kernel takes a namespace apart a little after its last holder let go of it."""
    with netns.entered(machine.netns):
        while any(name == link for _, name in socket.if_nameindex()):
            time.sleep(0.005)


def starting(here: World, knife: StartKnife, number: int) -> list[str]:
    """With an ADD that was cut off, and a DEL that came while the agent was away."""
    with _sandboxes(here) as make:
        first, second = make(), make()
        result = here.call("ADD", first)
        assert result.ok, result
        half = AgentKnife(here, _HALF_AN_ADD)
        assert not half.call("ADD", second).ok and half.hit
        faults = _unless(here.call("DEL", first, result.document), "DEL while the agent is away")
        knife.start()
        here.revive()
        if number % 2 == 0:  # else the start alone has to clear up
            faults += _unless(here.call("DEL", second), "DEL")
        return faults + _afterwards(here, make, first)


@contextmanager
def _sandboxes(here: World) -> Iterator[Callable[[], Sandbox]]:
    """Makes them, until the block ends."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(here.machine.sandbox())


def _afterwards(here: World, make: Callable[[], Sandbox], first: Sandbox) -> list[str]:
    """The runtime's next pod works, nobody has what another has, the bystander is as it was, and then nothing is left."""
    new = make()
    answer = here.call("ADD", new)
    faults = _unless(answer, "ADD of the next sandbox")
    shown = addresses_in_use({first.netns, new.netns, here.bystander.netns})
    faults += [f"{address} was given out twice" for address in {a for a in shown if shown.count(a) > 1}]
    if answer.ok:
        faults += _unless(here.call("CHECK", new, answer.document), "CHECK of the next sandbox")
    faults += _unless(here.call("DEL", new), "DEL of the next sandbox")
    faults += _unless(here.call("CHECK", here.bystander, here.bystander_result), "CHECK of the bystander")
    return faults + settled(here.machine, here.before)


def _unless(answer: Answer, what: str) -> list[str]:
    return [] if answer.ok else [f"{what}: {answer.code} {answer.stdout.decode(errors='replace')}"]


def _malformed(answer: Answer) -> list[str]:
    """A call that failed has to say so in the specification's words; a client that was killed says nothing."""
    if answer.code < 0:
        return []
    try:
        return [] if {"code", "msg"} <= answer.document.keys() else [f"no error document: {answer.stdout!r}"]
    except ValueError:
        return [f"no JSON: {answer.stdout!r}"]


# Tables


@dataclass(slots=True)
class Table:
    """What the points of one operation left behind, for people."""

    operation: str
    points: list[Point] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"| {self.operation} | {len(self.points)} | {len(self.faults)} |"


class Cutting(Protocol):
    """A knife, as far as the tables see it."""

    order: Order | None
    hit: Point | None
    seen: list[str]


def kill(point: Point) -> tuple[Order, ...]:
    return (Kill(point),)


def fail(point: Point) -> tuple[Order, ...]:
    return tuple(Fail(point, code) for code in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EBUSY))


def cut_everywhere(
    title: str,
    knife: Cutting,
    run: Callable[[int], list[str]],
    orders: Callable[[Point], tuple[Order, ...]] = kill,
    *,
    every: int = 1,
) -> Table:
    """`run(number)` gives faults.  `every`: so many points of the first run are passed over for each that is cut."""
    table = Table(title)
    knife.order = None
    table.faults += [f"{title}, uncut: {fault}" for fault in run(0)]
    points = _numbered(knife.seen)[every - 1 :: every]
    for number, point in enumerate(points, start=1):
        for order in orders(point):
            knife.order = order
            faults = run(number)
            table.points += [knife.hit] if knife.hit else []
            table.faults += [f"{title}, {order}: {fault}" for fault in faults]
            if every == 1:
                points += [p for p in _numbered(knife.seen) if p not in points]
    return table


def _numbered(calls: list[str]) -> list[Point]:
    return [Point(what, calls[: place + 1].count(what)) for place, what in enumerate(calls)]


def kill_starts(here: World, title: str, *, every: int = 1) -> Table:
    knife = StartKnife(here.machine)
    return cut_everywhere(title, knife, lambda number: starting(here, knife, number), every=every)


def kill_first_starts(make: Callable[[], AbstractContextManager[Machine]], title: str) -> Table:
    """The first start of a node, which registers itself and claims blocks: a machine for each point."""
    with make() as machine:
        knife = StartKnife(machine)

        def first_start(number: int) -> list[str]:
            with make() as knife.machine:
                knife.start()
                knife.machine.end(signal.SIGKILL)
                knife.machine.start()
                with world(knife.machine) as here, _sandboxes(here) as make_sandbox:
                    faults = _afterwards(here, make_sandbox, make_sandbox())
                claimed = blocks_of(knife.machine)
                return faults if len(claimed) == len(POOLS) else [*faults, f"blocks: {claimed}"]

        return cut_everywhere(title, knife, first_start)


def fail_everywhere(title: str, knife: AgentKnife, operation: Operation) -> Table:
    """Each call fails once with each error; the agent lives on."""

    def run(number: int) -> list[str]:
        pid = knife.here.machine.pid
        faults = operation(knife.here, knife, number)
        died = knife.here.machine.pid != pid and knife.hit and knife.hit.what != "setns"  # whoever cannot come home has to end
        return [*faults, "the agent died"] if died else faults

    return cut_everywhere(title, knife, run, fail)
