"""The agent as a process: alone on its directory, closed to others, frugal, quiet, and not disturbed by who asks it things."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import yaml

from netloom.dataplane import netns
from netloom.model.resources import Metadata, Namespace
from tests.agent_process import HASTY, machine, running_machine
from tests.cni_calls import CONFIG, NATIVE, call
from tests.kernel.agent.conftest import LONG, Place, place_of, remote_node
from tests.other_nodes import its_block
from tests.residue import differences, quiet_residue, residue, settled
from tests.waiting import eventually

PORT = 9477
NOBODY = 65534
WORKERS = 8
"""So many threads an agent may wake beyond those it has had to, each with a descriptor of its own; pods are many more."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_machine(healthAddress=f"127.0.0.1:{PORT}", resyncInterval=3600.0) as made, place_of(made) as here:
        remote_node(here.store, 2, "10.244.7.0/26")
        assert here.add("resident").ok
        here.quiet_residue()
        yield here


def ask(place: Place, path: str, method: str = "GET") -> tuple[int, str]:
    with netns.entered(place.machine.netns):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def knock(place: Place) -> socket.socket:
    """A connection to the health address that says nothing yet."""
    with netns.entered(place.machine.netns):
        return socket.create_connection(("127.0.0.1", PORT), timeout=30)


def descriptors(place: Place) -> int:
    return len(os.listdir(f"/proc/{place.machine.pid}/fd"))


def threads(place: Place) -> int:
    return len(os.listdir(f"/proc/{place.machine.pid}/task"))


def passes(place: Place) -> int:
    last = place.machine.state().last_pass
    return last.number if last else 0


def memory(place: Place) -> int:
    """Resident, in KiB."""
    with open(f"/proc/{place.machine.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4


# Alone


def test_a_second_agent_on_the_same_directory_refuses_and_changes_nothing(place: Place) -> None:
    before = quiet_residue(place.machine)
    with netns.entered(place.machine.netns):
        second = subprocess.run(
            [*place.machine.command, f"{place.machine.folder}/agent.yaml"], capture_output=True, text=True, timeout=60
        )
    assert second.returncode != 0
    assert f"process {place.machine.pid} is the agent of this network namespace" in second.stderr
    assert "Traceback" not in second.stderr
    assert settled(place.machine, before) == []
    assert place.add("served").ok
    assert place.delete("served").ok


def test_a_second_agent_with_directories_of_its_own_refuses_too(place: Place) -> None:
    """It would take the pods of the first for garbage."""
    before = quiet_residue(place.machine)
    with machine() as other, netns.entered(place.machine.netns):
        second = subprocess.run([*other.command, f"{other.folder}/agent.yaml"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert f"process {place.machine.pid} is the agent of this network namespace" in second.stderr
    assert settled(place.machine, before) == []


def test_an_agent_in_another_namespace_cannot_have_the_same_directory(place: Place) -> None:
    with machine() as other, netns.entered(other.netns):
        second = subprocess.run(
            [*other.command, f"{place.machine.folder}/agent.yaml"], capture_output=True, text=True, timeout=60
        )
    assert second.returncode == 2
    assert "another agent is running on this directory" in second.stderr


def test_a_name_that_somebody_else_has_taken_keeps_no_agent_from_starting() -> None:
    script = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0netloom-agent'); s.listen(); print(1, flush=True); input()"
    with machine() as made:
        with netns.entered(made.netns):
            squatter = subprocess.Popen(
                ["/usr/bin/python3", "-c", script],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert squatter.stdout is not None
        squatter.stdout.readline()
        made.start()
        assert f"process {squatter.pid} of user {NOBODY} has taken the name" in made.log()
        squatter.communicate(b"\n")


@pytest.mark.parametrize("lost", ["journal", "cni.sock", "."])
def test_an_agent_that_has_lost_its_footing_ends_and_a_start_finds_everything_again(lost: str) -> None:
    with running_machine(command=HASTY) as made, place_of(made) as here:
        assert here.add("resident").ok
        before = here.quiet_residue()
        for name in os.listdir(made.run_dir) if lost == "." else [lost]:
            subprocess.run(["rm", "-rf", f"{made.run_dir}/{name}"], check=True)
        eventually(lambda: made.pid is None)
        assert "was removed or replaced while the agent ran" in made.log()
        assert "Traceback" not in made.log()
        made.start()
        assert differences(before, here.quiet_residue()) == []
        assert [a.container_id for a in made.state().attachments] == ["resident"]
        assert here.add("next").ok
        assert here.addresses["next"] != here.addresses["resident"]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("healthAddress", "127.0.0.1:http", "is not ADDRESS:PORT"),
        ("healthAddress", "198.51.100.1:80", "cannot listen on 198.51.100.1:80"),
        ("datastore", "etcd:", "is no server"),
        ("runDir", "/proc/none", "cannot be made"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_before_anything_happens(setting: str, value: str, words: str) -> None:
    with machine() as made:
        before = residue(made)
        with open(f"{made.folder}/agent.yaml", encoding="utf-8") as file:
            settings = {**yaml.safe_load(file), setting: value}
        with open(f"{made.folder}/agent.yaml", "w", encoding="utf-8") as file:
            yaml.safe_dump(settings, file)
        with netns.entered(made.netns):
            done = subprocess.run([*made.command, f"{made.folder}/agent.yaml"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not [line for line in differences(before, residue(made)) if not line.startswith("+ file")]


# Closed to others


def test_directories_and_files_are_roots_alone(place: Place) -> None:
    for folder in (place.machine.run_dir, place.machine.state_dir):
        for path, _, names in os.walk(folder):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
            for name in names:
                mode = stat.S_IMODE(os.stat(f"{path}/{name}").st_mode)
                assert mode == (0o660 if name == "netloom.sock" else 0o600), name


def test_a_directory_that_others_may_write_to_is_refused() -> None:
    with machine() as made:
        os.chmod(made.run_dir, 0o777)
        with netns.entered(made.netns):
            done = subprocess.run([*made.command, f"{made.folder}/agent.yaml"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "others may write" in done.stderr


def test_only_root_is_listened_to(place: Place) -> None:
    """Even where the way to the socket is open."""
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'NLM1'); print(s.recv(1))"
    path = f"{place.machine.run_dir}/cni.sock"
    arguments = ["/usr/bin/python3", "-c", script, path]
    closed = subprocess.run(arguments, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True)
    assert "PermissionError" in closed.stderr
    with ExitStack() as stack:
        for name, mode in ((place.machine.folder, 0o755), (place.machine.run_dir, 0o755), (path, 0o666)):
            stack.callback(os.chmod, name, stat.S_IMODE(os.stat(name).st_mode))
            os.chmod(name, mode)
        done = subprocess.run(arguments, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, timeout=60)
    assert done.stdout in ("b''\n", "") and "." not in done.stdout
    assert f"of user {NOBODY} may not use the CNI socket" in place.machine.log()


# Frugal


def test_nothing_is_used_up_by_pods_that_come_and_go(place: Place) -> None:
    def come_and_go(times: int) -> None:
        for number in range(times):
            with place.machine.sandbox(f"passer-by-{number}") as sandbox:
                for command in ("ADD", "DEL"):
                    assert call(NATIVE, command, place.machine.run_dir, sandbox.container_id, sandbox.path).ok

    come_and_go(30)
    place.quiet_residue()
    before = descriptors(place), threads(place)
    resident = memory(place)
    come_and_go(1000 if LONG else 200)
    eventually(lambda: descriptors(place) <= before[0] + WORKERS and threads(place) <= before[1] + WORKERS)
    eventually(lambda: memory(place) - resident < 2048)  # what is free is given back every few seconds


# Quiet


def test_a_quiet_machine_logs_nothing_and_makes_no_passes(place: Place) -> None:
    place.quiet_residue()
    log, before = place.machine.log(), place.machine.state().last_pass
    for number in range(20):  # what the kernel learns on the uplink is no news
        place.run(f"ip neighbour replace 192.168.77.{100 + number} lladdr 02:00:00:00:00:09 dev eth0 nud stale")
    place.run("nft", "table ip others { chain c { }; }")
    place.run("ip route add 198.51.100.0/24 dev eth0")
    time.sleep(1.2)
    assert place.machine.log() == log
    assert place.machine.state().last_pass == before


def test_a_failure_that_stands_is_told_once_and_so_is_its_end() -> None:
    with machine() as made, place_of(made) as here:
        remote_node(here.store, 2, "10.244.7.0/26")
        here.run("ip link add other type vxlan id 1 dstport 4789 dev eth0")
        here.run("ip link set other up")  # and has the port
        made.start()
        eventually(lambda: "loom.vxlan" in made.log())
        assert here.add("served").ok
        for number in range(3):
            tried = passes(here)
            here.run(f"ip link add other{number} type bridge")
            eventually(lambda tried=tried: passes(here) > tried)
        told = [line for line in made.log().splitlines() if "WARNING" in line]
        assert len([line for line in told if "links loom.vxlan" in line]) == 1, told
        assert any("links loom.vxlan" in p.message for p in made.state().problems)
        assert made.state().in_sync_since is None
        here.run("ip link del other")
        eventually(lambda: made.state().in_sync_since)
        assert "over: links loom.vxlan" in made.log()
        assert "10.244.7.0/26" in here.run("ip route")
        eventually(lambda: made.state().problems == ())


# Asked


def test_probes_and_metrics_are_answered(place: Place) -> None:
    assert ask(place, "/livez") == (200, "ok\n")
    assert ask(place, "/readyz") == (200, "ok\n")
    status, metrics = ask(place, "/metrics")
    assert status == 200
    for line in (
        'netloom_cni_requests_total{cmd="ADD",code="0"}',
        "netloom_pass_duration_seconds_count",
        "netloom_datastore_connected 1.0\n",
        "netloom_dataplane_in_sync 1.0\n",
        "netloom_build_info",
    ):
        assert line in metrics
    assert ask(place, "/v1/state")[0] == 404, "the state is for root"
    assert ask(place, "/livez", "POST")[0] == 501
    assert ask(place, "/" + "x" * 5000)[0] == 404


SERVED = 8
"""So many are answered at a time."""


def test_who_is_slow_or_many_disturbs_no_pod(place: Place) -> None:
    """Who is not answered within two seconds is told so: that is an error here."""
    before = threads(place), descriptors(place)
    with ExitStack() as stack:
        for words in (b"", b"G", b"GET /metrics HTTP/1.1\r\nHost:", b"\0" * 1000) * 20:
            crowd = stack.enter_context(knock(place))
            crowd.send(words)
        eventually(lambda: threads(place) >= before[0] + SERVED // 2)  # some of those before may have been about to end
        for number in range(10):
            assert place.add(f"crowd-{number}").ok
            assert place.delete(f"crowd-{number}").ok
        assert threads(place) <= before[0] + SERVED + WORKERS
        if LONG:  # the slow ones are sent away
            time.sleep(11)
            assert ask(place, "/livez")[0] == 200
    eventually(lambda: threads(place) <= before[0] + WORKERS and descriptors(place) <= before[1] + WORKERS)
    assert ask(place, "/livez")[0] == 200


def test_many_who_ask_for_metrics_disturb_no_pod(place: Place) -> None:
    end = threading.Event()

    def keep_asking() -> None:
        while not end.is_set():
            try:
                ask(place, "/metrics")
            except (OSError, http.client.HTTPException):
                continue

    askers = [threading.Thread(target=keep_asking) for _ in range(12)]
    for asker in askers:
        asker.start()
    try:
        for number in range(10):
            assert call(NATIVE, "STATUS", place.machine.run_dir, "", "", CONFIG).ok
            assert place.add(f"metrics-{number}").ok
            assert place.delete(f"metrics-{number}").ok
    finally:
        end.set()
        for asker in askers:
            asker.join()


def test_the_state_can_be_asked_for_while_pods_come_and_go(place: Place) -> None:
    end, faults = threading.Event(), list[str]()

    def keep_asking() -> None:
        while not end.is_set():
            try:
                place.machine.state()
            except Exception as e:
                faults.append(repr(e))

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for number in range(20):
            assert place.add(f"state-{number}").ok
        for number in range(20):
            assert place.delete(f"state-{number}").ok
    finally:
        end.set()
        for asker in askers:
            asker.join()
    assert faults == []
    assert "ERROR" not in place.machine.log()


# At fault


FAULTY = """
import importlib
import netloom.cli
def make_faulty(module, name, fault):
    module = importlib.import_module(module)
    sound = getattr(module, name)
    def faulty(snapshot, *rest):
        if fault in snapshot.namespaces:
            print("at fault", flush=True)
            raise ZeroDivisionError("division by zero")
        return sound(snapshot, *rest)
    setattr(module, name, faulty)
make_faulty("netloom.agent.passing", "desired", "fault")
make_faulty("netloom.calc.remote", "doubts_of", "half")
netloom.cli.main()
"""


def test_a_fault_in_a_pass_is_told_once_and_neither_the_loop_nor_pods_end_with_it() -> None:
    fault = Namespace(metadata=Metadata(name="fault"))
    with running_machine(command=(sys.executable, "-c", FAULTY, "agent", "--config")) as made, place_of(made) as here:
        assert here.add("before").ok
        here.store.create(fault)
        eventually(lambda: any("a fault of our own: ZeroDivisionError" in p.message for p in made.state().problems))
        assert made.state().in_sync_since is None
        assert here.add("meanwhile").ok
        assert here.delete("before").ok
        here.run("ip link add other0 type bridge")
        eventually(lambda: made.log().count("at fault") > 2)
        assert made.log().count("Traceback") == 1
        here.store.delete("Namespace", "fault")
        eventually(lambda: made.state().in_sync_since and not made.state().problems)
        assert made.state().ready


def test_what_a_fault_left_half_computed_is_computed_anew() -> None:
    with running_machine(command=(sys.executable, "-c", FAULTY, "agent", "--config")) as made, place_of(made) as here:
        remote_node(here.store, 2, "10.244.2.0/26")
        eventually(lambda: "10.244.2.0/26" in here.run("ip route"))
        here.store.create(Namespace(metadata=Metadata(name="half")))
        eventually(lambda: made.log().count("at fault") > 0)
        before = made.log().count("at fault")
        here.store.create(its_block(ipaddress.ip_network("10.244.3.0/26"), "remote-2", "id-2"))
        eventually(lambda: made.log().count("at fault") > before)
        here.store.delete("Namespace", "half")
        eventually(lambda: "10.244.3.0/26" in here.run("ip route"))
        assert "10.244.2.0/26" in here.run("ip route")
