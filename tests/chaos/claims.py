"""Many processes claim blocks for many nodes at once, on a cluster of three that is in trouble all the time; then it is judged.  And
one follows all that, as an agent does.

outcome = contend(folder, processes=16, nodes=1000, blocks=4, seed=1, seconds=(1.0, 4.0))
assert outcome.verdict, str(outcome.verdict)
assert not outcome.faults
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from netloom.dataplane import netns
from netloom.model.resources import IPBlock, decode
from tests.chaos.faults import Cluster, members, troubled
from tests.chaos.recording import named, recorded
from tests.linearizability import Answer, Operation, Verdict, judge

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """`faults`: what must not be, in words.  `unanswered`: writes of which nobody knows whether they happened."""

    verdict: Verdict
    faults: Sequence[str]
    seconds: float
    claims: int
    unanswered: int
    refused: int
    losses: int
    happened: Mapping[str, int]

    def __str__(self) -> str:
        troubles = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        return (
            f"{self.claims} blocks claimed in {self.seconds:.0f} s, {self.verdict.operations} operations on {self.verdict.keys} slots, "
            f"{self.unanswered} writes without an answer, {self.refused} refused and tried again; a watcher lost it {self.losses} times; {troubles}"
        )


def contend(
    folder: Path, *, processes: int, nodes: int, blocks: int, pool: str, seed: int, seconds: tuple[float, float], least: float
) -> Outcome:
    """`least`: seconds in which nodes also give blocks back and claim others; then it ends as soon as all have theirs."""
    with members(3) as cluster, ExitStack() as stack:
        target = f"etcd:{cluster.etcd.urls}"
        _make(cluster, target)
        shares = [nodes // processes + (number < nodes % processes) for number in range(processes)]
        begun = time.monotonic()
        with troubled(cluster, seed, seconds) as trouble:
            workers = [
                stack.enter_context(_worker(cluster, target, folder, number, share, blocks, pool, least))
                for number, share in enumerate(shares)
            ]
            follower = stack.enter_context(_started(cluster, folder, "follower", target))
            stack.callback(_end, [*workers, follower])
            _hear(workers, "claimed", patience=3600.0)
            took = time.monotonic() - begun
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("settle\n")
            worker.stdin.flush()
        reports = [json.loads(line) for line in _hear(workers, "{", patience=300.0)]
        records = _records(cluster, target)
        followed = _followed(follower, records)
    history = [operation for number in range(processes) for operation in recorded(folder / f"history-{number}")]
    history += _at_last({operation.key for operation in history}, records)
    serving = {name: held for report in reports for name, held in report["serving"].items()}
    return Outcome(
        judge(history),
        [
            *followed.faults,
            *_twice(serving),
            *_unlike(serving, records),
            *(f"{n} holds {len(h)}" for n, h in serving.items() if len(h) < blocks),
        ],
        took,
        sum(map(len, serving.values())),
        sum(operation.answer is Answer.NONE for operation in history),
        sum(report["refused"] for report in reports),
        followed.losses,
        Counter(trouble.happened),
    )


def _make(cluster: Cluster, target: str) -> None:
    """The store, by a process of its own: gRPC's threads stay where they are born."""
    script = "import sys; from netloom.datastore import connect; connect(sys.argv[1]).close()"
    with netns.entered(cluster.clients):
        subprocess.run([sys.executable, "-c", script, target], check=True, timeout=60)


def _worker(
    cluster: Cluster, target: str, folder: Path, number: int, nodes: int, blocks: int, pool: str, seconds: float
) -> subprocess.Popen[str]:
    task: dict[str, object] = {
        "target": target,
        "folder": str(folder),
        "number": number,
        "nodes": nodes,
        "blocks": blocks,
        "pool": pool,
    }
    task["seconds"] = seconds
    return _started(cluster, folder, "worker", json.dumps(task))


def _started(cluster: Cluster, folder: Path, module: str, argument: str) -> subprocess.Popen[str]:
    with netns.entered(cluster.clients), open(folder / f"{module}.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"tests.chaos.{module}", argument],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _hear(workers: Sequence[subprocess.Popen[str]], beginning: str, patience: float) -> list[str]:
    """A line of each."""
    timer = threading.Timer(patience, _end, [workers])
    timer.start()
    try:
        lines = []
        for number, worker in enumerate(workers):
            assert worker.stdout is not None
            lines.append(worker.stdout.readline())
            assert lines[-1].startswith(beginning), f"process {number} said {lines[-1]!r}: see its log"
        return lines
    finally:
        timer.cancel()


@dataclass(frozen=True, slots=True)
class _Followed:
    faults: Sequence[str]
    losses: int


def _followed(follower: subprocess.Popen[str], records: Mapping[str, tuple[str, IPBlock]]) -> _Followed:
    """Whether it knows in the end what there is."""
    assert follower.stdin is not None
    last = {name: write for name, (write, _) in records.items()}
    deadline = time.monotonic() + 60.0
    _hear([follower], "following", 60.0)
    while True:
        follower.stdin.write("well?\n")
        follower.stdin.flush()
        said = json.loads(_hear([follower], "{", 60.0)[0])
        unlike = [name for name in last.keys() | said["blocks"].keys() if last.get(name) != said["blocks"].get(name)]
        if not unlike or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    faults = [f"a watcher sees another {name} than there is" for name in unlike]
    faults += [f"in a watcher's eyes the store jumped {said['jumps']} times"] if said["jumps"] else []
    return _Followed(faults, said["losses"])


def _end(workers: Sequence[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.kill()


def _records(cluster: Cluster, target: str) -> dict[str, tuple[str, IPBlock]]:
    """Slots' names → the write that is there at last, and what it says."""
    script = (
        "import sys, msgspec; from netloom.datastore import connect; from netloom.model.resources import encode\n"
        "for s in connect(sys.argv[1], create=False).list('IPBlock').items: print(encode(s.resource).decode())"
    )
    with netns.entered(cluster.clients):
        done = subprocess.run([sys.executable, "-c", script, target], check=True, capture_output=True, text=True, timeout=60)
    blocks = [decode(line.encode()) for line in done.stdout.splitlines()]
    return {b.name: (str(named(b)), b) for b in blocks if isinstance(b, IPBlock)}


def _at_last(keys: set[str], records: Mapping[str, tuple[str, IPBlock]]) -> Iterator[Operation]:
    """One more read of each slot, after all else."""
    now = time.monotonic()
    for key in keys | records.keys():
        yield Operation(now, now + 1, key, True, None, records[key][0] if key in records else None)


def _twice(serving: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Addresses that two nodes would give out."""
    held = sorted((ipaddress.IPv4Network(cidr), name) for name, cidrs in serving.items() for cidr in cidrs)
    for (first, one), (second, other) in pairwise(held):
        if first.overlaps(second):
            yield f"{one} and {other} both hold {second}"


def _unlike(serving: Mapping[str, Sequence[str]], records: Mapping[str, tuple[str, IPBlock]]) -> Iterator[str]:
    """What nodes and store do not agree on."""
    own = {(cidr, name) for name, cidrs in serving.items() for cidr in cidrs}
    stored = {(str(claim.cidr), claim.node) for _, block in records.values() for claim in block.spec.claims}
    yield from (f"{name} holds {cidr}, and the store does not say so" for cidr, name in sorted(own - stored))
    yield from (f"the store says that {name} holds {cidr}, which does not" for cidr, name in sorted(stored - own))
