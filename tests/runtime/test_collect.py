"""Garbage: what a runtime has forgotten, and what it remembers of pods that are no more."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal

import pytest

from netloom.model.resources import IPPoolSpec
from tests.agent_process import running_machine
from tests.residue import quiet_residue
from tests.runtime.conftest import left_of
from tests.runtime.containerd import CACHE, Containerd, Version, containerd
from tests.runtime.cri import Pod, Sandbox
from tests.runtime.enclosure import enclosure
from tests.runtime.libcni import cached, collect
from tests.runtime.reaching import Reaching

SMALL = {"small": IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/29"), block_size=29)}
"""So few addresses that new pods get those of old ones."""
SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")
NEWEST = "1.1.0"


@pytest.fixture
def conflist(runtime: Containerd) -> dict[str, object]:
    """GC came with 1.1.0: a runtime that speaks an older one has its garbage collected by somebody else, with that one's list."""
    return {**runtime.version.conflist(), "cniVersion": NEWEST}


def own(pod: Sandbox) -> tuple[str, str]:
    return pod.id, "eth0"


def test_what_is_listed_stays(runtime: Containerd, conflist: dict[str, object]) -> None:
    pods = [runtime.cri.run(Pod(name)) for name in ("one", "two")]
    pods[1].start("serving", *SERVING)
    with Reaching(runtime, pods[0], pods[1].addresses) as reaching:
        assert [answer.ok for answer in collect(runtime, conflist, [own(pod) for pod in pods])] == [True]
        reaching.on(0.2)
    assert reaching.lost == []
    for pod in pods:
        pod.remove()


def test_what_is_not_listed_is_deleted_out_of_the_cache_and_the_rest_stays(
    runtime: Containerd, conflist: dict[str, object]
) -> None:
    gone, *kept = [runtime.cri.run(Pod(name)) for name in ("gone", "one", "two")]
    kept[1].start("serving", *SERVING)
    with Reaching(runtime, kept[0], kept[1].addresses) as reaching:
        answers = collect(runtime, conflist, [own(pod) for pod in kept])
        assert [answer.ok for answer in answers] == [True, True]  # DEL, GC
        reaching.on(0.2)
    assert reaching.lost == []
    assert [one.attachment for one in cached(runtime, "pods")] == sorted(own(pod) for pod in kept)
    for pod in (gone, *kept):
        pod.remove()


def test_an_attachment_that_the_cache_has_lost_goes_with_its_sandbox(runtime: Containerd, conflist: dict[str, object]) -> None:
    """No DEL is coming for it: the runtime knows neither the pod nor the call."""
    pod = runtime.cri.run(Pod("lost"))
    runtime.inside.run("sh", "-c", f"rm {CACHE}/pods-*")
    die(runtime)
    assert [answer.ok for answer in collect(runtime, conflist, ())] == [True]
    runtime.start()
    runtime.cri.remove(pod.id)


def test_after_a_reboot_old_pods_go_and_do_not_take_anything_of_new_ones(version: Version) -> None:
    """containerd has the results of old calls on its disk, and deletes by them; their addresses are new pods' by then."""
    with running_machine(SMALL) as machine, enclosure(machine) as inside, containerd(inside, version) as runtime:
        before = quiet_residue(machine)
        old = [runtime.cri.run(Pod(f"old-{n}")) for n in range(3)]
        addresses = {address for pod in old for address in pod.addresses}
        reboot(runtime)
        new = [runtime.cri.run(Pod(f"new-{n}")) for n in range(4)]
        assert len(list(cached(runtime, "pods"))) == 7
        again = [pod for pod in new if addresses & set(pod.addresses)]
        assert again
        again[0].start("serving", *SERVING)
        with Reaching(runtime, next(pod for pod in new if pod != again[0]), again[0].addresses) as reaching:
            for pod in old:
                runtime.cri.remove(pod.id)
            reaching.on(0.2)
        assert reaching.lost == []
        for pod in new:
            pod.remove()
        assert left_of(runtime, before) == []


def die(runtime: Containerd) -> None:
    """As in a power failure: nothing of runtime and pods is alive, and no namespace either."""
    runtime.end(signal.SIGKILL)
    runtime.inside.end_all()
    for path in filter(re.compile("/run/netns/").match, runtime.left()):
        runtime.inside.run("umount", path)
        runtime.inside.run("rm", path)


def reboot(runtime: Containerd) -> None:
    """And what lies in memory only, is gone."""
    machine = runtime.inside.machine
    die(runtime)
    machine.end(signal.SIGKILL)
    for folder in (machine.run_dir, f"{runtime.folder}/state"):
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    machine.start()
    runtime.start()
