"""Both clients against a small agent that speaks protocol.py: one suite, because they have the same duties and words."""

from __future__ import annotations

import array
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from netloom.cni import client as python_client
from netloom.cni import messages, protocol
from netloom.cni.native import MACHINES, executable
from netloom.cni.protocol import Call, pack_answer, unpack_request
from netloom.cni.results import encode_error, encode_versions
from netloom.errors import CniError
from tests.pure.cni.calls import COMMANDS, HOST, NETNS, hostile_calls
from tests.waiting import waited

CONFIG = b'{"cniVersion":"1.1.0","name":"blue"}'
DOWN = b'{"cniVersion":"1.1.0","code":%d,"msg":"the agent of this node does not answer"}\n'
AT_ONCE = 1.9  # seconds; less than any deadline, so nothing waited for one

Command = Sequence[str]


def commands() -> dict[str, Command]:
    """The clients, as they are started; of machines that are emulated here, with the emulator."""
    found = {"python": [python_client.__file__]}
    for machine in MACHINES:
        emulator = [] if machine == platform.machine() else [shutil.which(f"qemu-{machine}-static") or ""]
        found[machine] = [*emulator, str(executable(machine))]
    return found


def clients() -> Iterator[object]:
    for name, command in commands().items():
        missing = pytest.mark.skipif("" in command, reason="no emulator for this machine")
        yield pytest.param(command, id=name, marks=missing)


@pytest.fixture(params=clients())
def client(request: pytest.FixtureRequest) -> Command:
    command: Command = request.param
    return command


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def all_clients(tmp_path: Path) -> dict[Path, Command]:
    """Each with a run directory of its own: for tests that mostly wait."""
    return {tmp_path / name: command for name, command in commands().items() if "" not in command}


# -- the runtime's side --


def start(
    client: Command, run_dir: Path, command: str = "ADD", stdin: int = subprocess.PIPE, **variables: str
) -> subprocess.Popen[bytes]:
    environment = {"CNI_COMMAND": command, "NETLOOM_RUN_DIR": str(run_dir), **variables}
    return subprocess.Popen(client, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def call(client: Command, run_dir: Path, command: str = "ADD", stdin: bytes = CONFIG, **variables: str) -> tuple[int, bytes]:
    """Exit code and what it prints; nothing ever goes to stderr."""
    process = start(client, run_dir, command, **variables)
    output, error = process.communicate(stdin, timeout=60)
    assert error == b""
    return process.returncode, output


def is_answered_at_once(client: Command, run_dir: Path, **variables: str) -> bool:
    """Whether an ADD waits for no deadline.  Who measures that may get the processor late, but not every time."""
    for _ in range(5):
        begun = time.monotonic()
        process = start(client, run_dir, **variables)
        ask(process, CONFIG)
        seconds = waited(process, begun)
        process.communicate()
        if seconds < AT_ONCE:
            return True
    return False


def ask(process: subprocess.Popen[bytes], stdin: bytes) -> None:
    """All that the runtime writes."""
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None


def refused(code: int, answer: tuple[int, bytes]) -> str:
    exit_code, output = answer
    document = json.loads(output)
    assert (exit_code, document["code"]) == (1, code)
    return str(document["msg"])


def tombstones(run_dir: Path) -> list[bytes]:
    return [file.read_bytes() for file in (run_dir / "tombstones").iterdir()]


# -- the agent's side --

Behaviour = Callable[[socket.socket, Call, Sequence[int]], None]


@contextmanager
def agent(run_dir: Path, behave: Behaviour) -> Iterator[None]:
    """Receives whole frames, one connection at a time, and then does what the test says."""
    run_dir.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run_dir / protocol.SOCKET))
        server.listen(64)
        thread = threading.Thread(target=_serve, args=(server, behave), daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=60)
        assert not thread.is_alive()


def _serve(server: socket.socket, behave: Behaviour) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            frame, descriptors = _receive(connection)
            behave(connection, unpack_request(frame), descriptors)
            for fd in descriptors:
                os.close(fd)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    frame, descriptors = b"", array.array("i")
    while protocol.request_size(frame) != len(frame):
        data, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(4 * 4))
        assert data, "the client went away"
        frame += data
        for _, _, payload in ancillary:
            descriptors.frombytes(payload)
    return frame, list(descriptors)


def answering(
    exit_code: int, output: bytes, note: Callable[[Call, Sequence[int]], object] = lambda call, fds: None
) -> Behaviour:
    """Accepts and answers; `note` may look at what came."""

    def behave(connection: socket.socket, call: Call, descriptors: Sequence[int]) -> None:
        note(call, descriptors)
        connection.sendall(protocol.ACCEPTED + pack_answer(exit_code, output))

    return behave


def saying(data: bytes) -> Behaviour:
    """Says exactly this, and hangs up."""
    return lambda connection, call, descriptors: connection.sendall(data)


# -- what a client answers by itself --


def test_without_a_command_people_get_an_explanation(client: Command) -> None:
    """Point 3.  And there is no environment at all."""
    done = subprocess.run(client, env={}, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    assert b"CNI_COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b"", "1.0.0"),
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{ "a" : "b", "cniVersion" \t\n: \r\n"1.1.0" }', "1.1.0"),
        (b'{"cniVersion":"""cniVersion":"0.4.0"', "1.0.0"),
        (b'""cniVersion":"0.4.0"', "0.4.0"),
        (b'"cniVersion":"0.4.0', "1.0.0"),
        (b'"cniVersion":"0.4.000000000000"', "1.0.0"),
        (b'"cniVersion":"0.4.00000000000"', "0.4.00000000000"),
        (b'"cniVersion":".1"', "1.0.0"),
        (b'"cniVersion":"1\\u0000"', "1.0.0"),
        (b'"cniVersion":1', "1.0.0"),
        (b'"cniVersion"', "1.0.0"),
        (b'"cniVersion":', "1.0.0"),
        (b'"cniVersion":"', "1.0.0"),
        (b"\xff\0" * 50000 + b'"cniVersion":"0.3.1"', "0.3.1"),
    ],
)
def test_version_is_answered_without_an_agent(client: Command, run_dir: Path, stdin: bytes, version: str) -> None:
    """Points 18, 27, 28."""
    exit_code, output = call(client, run_dir, "VERSION", stdin)
    assert exit_code == 0
    assert json.loads(output) == json.loads(encode_versions(version))
    assert not run_dir.exists()


def test_version_is_answered_to_a_terminal_that_sends_nothing(all_clients: dict[Path, Command]) -> None:
    for process in [start(client, run_dir, "VERSION") for run_dir, client in all_clients.items()]:
        process.wait(timeout=60)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["cniVersion"] == "1.0.0"
        process.communicate()


@pytest.mark.parametrize("command", ["FOO", "add", "ADDD", "AD", "\xff", "ADD "])
def test_an_unknown_command_is_refused(client: Command, run_dir: Path, command: str) -> None:
    """Points 2, 11."""
    assert "CNI_COMMAND" in refused(4, call(client, run_dir, command))


def test_an_environment_beyond_the_bound_is_refused_and_one_at_the_bound_is_not(client: Command, run_dir: Path) -> None:
    room = protocol.ENVIRONMENT_LIMIT - len("CNI_COMMAND=ADD\0") - len("CNI_ARGS=\0")
    assert "CNI_" in refused(4, call(client, run_dir, CNI_ARGS="x" * (room + 1)))
    assert "CNI_" in refused(4, call(client, run_dir, CNI_ARGS="x" * 100_000, CNI_PATH="x" * 100_000))
    with agent(run_dir, answering(0, b"{}")):
        assert call(client, run_dir, CNI_ARGS="x" * room, PATH="x" * 100_000) == (0, b"{}")


def test_stdin_beyond_one_mebibyte_is_refused_and_one_mebibyte_is_not(client: Command, run_dir: Path) -> None:
    sizes: list[int] = []
    with agent(run_dir, answering(0, b"{}", lambda call, fds: sizes.append(len(call.stdin)))):
        assert call(client, run_dir, stdin=b" " * protocol.STDIN_LIMIT) == (0, b"{}")
        assert "1 MiB" in refused(5, call(client, run_dir, stdin=b" " * (protocol.STDIN_LIMIT + 1)))
        assert "1 MiB" in refused(5, call(client, run_dir, "DEL", b" " * (8 << 20)))
    assert sizes == [protocol.STDIN_LIMIT]


def test_stdin_that_cannot_be_read_is_refused(client: Command, run_dir: Path, tmp_path: Path) -> None:
    """Point 12: closed, or open for writing only."""
    for redirection in ("<&-", f"0>{tmp_path}/x"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *client],
            env={"CNI_COMMAND": "ADD", "NETLOOM_RUN_DIR": str(run_dir), "CNI_NETNS": "/proc/self/ns/net"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert "stdin" in refused(5, (done.returncode, done.stdout))


def test_a_runtime_that_writes_slowly_is_waited_for(client: Command, run_dir: Path) -> None:
    with agent(run_dir, answering(0, b"{}")):
        process = start(client, run_dir)
        assert process.stdin is not None
        for byte in CONFIG:
            process.stdin.write(bytes([byte]))
            process.stdin.flush()
            time.sleep(0.01)
        assert process.communicate(timeout=60) == (b"{}", b"")


@pytest.mark.long
def test_a_runtime_that_never_ends_is_not(client: Command, run_dir: Path) -> None:
    process = start(client, run_dir)
    began = time.monotonic()
    process.wait(timeout=15)
    assert 9 < time.monotonic() - began < 12
    assert process.stdout is not None
    assert "stdin" in refused(5, (process.returncode, process.stdout.read()))
    process.communicate()


# -- the call goes to the agent, the answer comes back --


@pytest.mark.parametrize("command", COMMANDS)
def test_the_agent_gets_what_the_runtime_gave(client: Command, run_dir: Path, command: str) -> None:
    calls: list[Call] = []
    given = {"CNI_ARGS": "a\udcff\n=;", "CNI_X": "", "CNI_NETNS": "/nowhere"}
    with agent(run_dir, answering(3, b'{"code":3}', lambda call, fds: calls.append(call))):
        assert call(client, run_dir, command, b"\0\xff{", **given, XCNI_Y="1", HOME="/") == (3, b'{"code":3}')
    assert calls == [Call({"CNI_COMMAND": command, **given}, b"\0\xff{")]


def test_an_empty_answer_is_a_good_one(client: Command, run_dir: Path) -> None:
    """Points 64, 71."""
    with agent(run_dir, answering(0, b"")):
        assert call(client, run_dir, "DEL", b"") == (0, b"")


def test_a_large_answer_is_printed_whole(client: Command, run_dir: Path) -> None:
    answer = os.urandom(protocol.ANSWER_LIMIT)
    with agent(run_dir, answering(0, answer)):
        assert call(client, run_dir) == (0, answer)


def test_an_answer_in_pieces_is_printed_whole(client: Command, run_dir: Path) -> None:
    def drip(connection: socket.socket, call: Call, descriptors: Sequence[int]) -> None:
        for byte in protocol.ACCEPTED + pack_answer(0, b"{}"):
            connection.send(bytes([byte]))
            time.sleep(0.02)

    with agent(run_dir, drip):
        assert call(client, run_dir) == (0, b"{}")


def test_a_slow_answer_is_waited_for(all_clients: dict[Path, Command]) -> None:
    """Two seconds are the bound for being accepted, not for the work."""

    def work(connection: socket.socket, call: Call, descriptors: Sequence[int]) -> None:
        connection.sendall(protocol.ACCEPTED)
        time.sleep(protocol.ACCEPT_SECONDS + 0.5)
        connection.sendall(pack_answer(0, b"{}"))

    with ExitStack() as stack:
        for run_dir in all_clients:
            stack.enter_context(agent(run_dir, work))
        processes = [start(client, run_dir, stdin=subprocess.DEVNULL) for run_dir, client in all_clients.items()]
        assert {(process.communicate(timeout=60), process.returncode) for process in processes} == {((b"{}", b""), 0)}


def test_calls_at_the_same_time_do_not_disturb_each_other(client: Command, run_dir: Path) -> None:
    def echo(connection: socket.socket, call: Call, descriptors: Sequence[int]) -> None:
        answering(0, call.stdin)(connection, call, descriptors)

    with agent(run_dir, echo):
        processes = [start(client, run_dir) for _ in range(8)]
        answers = [process.communicate(b"%d" % i, timeout=60)[0] for i, process in enumerate(processes)]
    assert answers == [b"%d" % i for i in range(8)]


def test_the_namespace_arrives_as_a_descriptor(client: Command, run_dir: Path, pod: int) -> None:
    found: list[os.stat_result] = []
    with agent(run_dir, answering(0, b"", lambda call, fds: found.extend(map(os.fstat, fds)))):
        call(client, run_dir, CNI_NETNS=f"/proc/{os.getpid()}/fd/{pod}")
    assert [os.path.samestat(status, os.fstat(pod)) for status in found] == [True]


@pytest.mark.parametrize(
    ("kind", "passed"),
    [("missing", 0), ("empty", 0), ("fifo", 1), ("file", 1), ("symlink", 1), ("loop", 0), ("socket", 0), ("long", 0)],
)
def test_a_path_that_is_no_namespace_holds_nothing_up(
    client: Command, run_dir: Path, tmp_path: Path, kind: str, passed: int
) -> None:
    """What could be opened is passed on, for the agent to judge."""
    path = tmp_path / "netns"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "file":
        path.touch()
    elif kind in ("symlink", "loop"):
        path.symlink_to(tmp_path if kind == "symlink" else path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    text = {"empty": "", "long": "/x" * 5000}.get(kind, str(path))
    counts: set[int] = set()
    with agent(run_dir, answering(0, b"{}", lambda call, fds: counts.add(len(fds)))):
        assert is_answered_at_once(client, run_dir, CNI_NETNS=text)
        assert call(client, run_dir, CNI_NETNS=text) == (0, b"{}")
    assert counts == {passed}


# -- the agent is down --


@pytest.mark.parametrize("place", ["no directory", "no socket", "nobody listens", "a path that is too long"])
def test_without_an_agent_each_command_has_its_answer(client: Command, run_dir: Path, place: str) -> None:
    """Points 16, 58, 74."""
    if place == "a path that is too long":
        run_dir /= "x" * 100
    elif place != "no directory":
        run_dir.mkdir()
    if place == "nobody listens":
        socket.socket(socket.AF_UNIX).bind(str(run_dir / protocol.SOCKET))
    for command in ("ADD", "CHECK", "GC"):
        assert call(client, run_dir, command) == (1, DOWN % 11)
    assert call(client, run_dir, "STATUS") == (1, DOWN % 50)
    assert is_answered_at_once(client, run_dir)


def test_a_deletion_without_an_agent_leaves_a_tombstone(client: Command, run_dir: Path) -> None:
    """Point 58.  The file is the frame that the agent would have got, and only root may read it."""
    variables = {"CNI_CONTAINERID": "6f3c0d", "CNI_IFNAME": "eth0", "CNI_NETNS": "/proc/self/ns/net"}
    for stdin in (b"", CONFIG, b"x" * protocol.STDIN_LIMIT):
        assert call(client, run_dir, "DEL", stdin, **variables) == (0, b"")
        (file,) = (run_dir / protocol.TOMBSTONES).iterdir()
        assert unpack_request(file.read_bytes()) == Call({"CNI_COMMAND": "DEL", **variables}, stdin)
        assert not file.name.startswith(".")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        file.unlink()


def test_a_hundred_deletions_leave_a_hundred_tombstones(client: Command, run_dir: Path) -> None:
    count = 100 if len(client) == 1 else 10
    processes = [start(client, run_dir, "DEL", stdin=subprocess.DEVNULL, CNI_CONTAINERID=str(i)) for i in range(count)]
    assert {process.communicate(timeout=60) for process in processes} == {(b"", b"")}
    found = {unpack_request(frame).environment["CNI_CONTAINERID"] for frame in tombstones(run_dir)}
    assert found == {str(i) for i in range(count)}


def test_a_deletion_that_cannot_be_noted_is_to_be_tried_again(client: Command, run_dir: Path) -> None:
    run_dir.mkdir()
    (run_dir / protocol.TOMBSTONES).touch()
    assert "deletion" in refused(11, call(client, run_dir, "DEL"))
    assert "deletion" in refused(11, call(client, run_dir / "no" / "parent", "DEL"))
    assert "deletion" in refused(11, call(client, run_dir / ("x/" * 3000), "DEL"))


@pytest.mark.parametrize("room", [0, 4096])
def test_half_a_tombstone_is_none(client: Command, tmp_path: Path, room: int) -> None:
    """The disk is full: no file stays, not even one with a dot."""
    script = f"mount -t tmpfs -o size=16384,mode=755 none {tmp_path} && head -c {16384 - room} /dev/zero > {tmp_path}/fill"
    script += f'; "$@"; ls -A {tmp_path}/tombstones'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *client],
        env={"CNI_COMMAND": "DEL", "NETLOOM_RUN_DIR": str(tmp_path), "PATH": os.environ["PATH"]},
        input=b"x" * 20_000,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"deletion" in done.stdout
    assert done.stdout.count(b"\n") == 1


def test_an_agent_that_stands_still_is_down_after_two_seconds(all_clients: dict[Path, Command], tmp_path: Path) -> None:
    """Who measures may get the processor late, but not every time; it is never less."""
    times: list[float] = []
    for attempt in range(5):
        took, longest = seconds_at_one_that_stands_still(list(all_clients.values()), tmp_path / str(attempt))
        assert took >= protocol.ACCEPT_SECONDS
        times.append(longest)
        if longest < protocol.ACCEPT_SECONDS + 1:
            return
    raise AssertionError(times)


def seconds_at_one_that_stands_still(clients: list[Command], folder: Path) -> tuple[float, float]:
    """Stopped while connections wait; stopped with no room for more; stopped in the middle of a long request.  How long it took, and how
    long one of them has waited at most."""
    kinds = ("waiting", "full", "long")
    places = {folder / f"{number}-{kind}": (client, kind) for number, client in enumerate(clients) for kind in kinds}
    with ExitStack() as stack, ThreadPoolExecutor(9 * len(clients)) as threads:
        for place, (_, kind) in places.items():
            place.mkdir(parents=True)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(place / protocol.SOCKET))
            listener.listen(0 if kind == "full" else 64)
            for _ in range(2 if kind == "full" else 0):
                filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                filler.connect_ex(str(place / protocol.SOCKET))
        began = time.monotonic()
        processes = {(p, command): start(c, p, command) for p, (c, _) in places.items() for command in ("ADD", "DEL", "STATUS")}
        for (place, _), process in processes.items():
            ask(process, CONFIG + b" " * (protocol.STDIN_LIMIT // 2 if places[place][1] == "long" else 0))
        asked = time.monotonic()
        longest = max(threads.map(lambda process: waited(process, asked), processes.values()))
        took = time.monotonic() - began
        outputs = {key: process.communicate(timeout=60)[0] for key, process in processes.items()}
    for place in places:
        assert outputs[place, "ADD"] == DOWN % 11
        assert outputs[place, "STATUS"] == DOWN % 50
        assert outputs[place, "DEL"] == b""
        assert len(tombstones(place)) == 1
    return took, longest


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"x", id="another byte"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b".", id="accepted, then gone"),
        pytest.param(b".\0\0\0\0\x05", id="gone in the header"),
        pytest.param(b"." + pack_answer(0, b"{}" * 50)[:-1], id="gone in the answer"),
        pytest.param(b".\0\0\0\0" + b"\xff" * 4, id="an answer of 4 GiB"),
        pytest.param(b".\0\0\0\0\x01\0\x10\0" + b"x" * 2000, id="an answer beyond the bound"),
        pytest.param(b".\0\x01\0\0\0\0\0\0", id="an exit code that is none"),
    ],
)
def test_an_agent_that_dies_or_talks_nonsense_is_down(client: Command, run_dir: Path, said: bytes) -> None:
    """Nothing of a half answer is printed; a deletion is noted, since nobody knows how far it came."""
    with agent(run_dir, saying(said)):
        assert call(client, run_dir, "ADD") == (1, DOWN % 11)
        assert call(client, run_dir, "STATUS") == (1, DOWN % 50)
        assert call(client, run_dir, "DEL") == (0, b"")
        assert len(tombstones(run_dir)) == 1
        assert is_answered_at_once(client, run_dir)


def test_a_failure_without_a_reason_gets_one(client: Command, run_dir: Path) -> None:
    with agent(run_dir, answering(1, b"")):
        assert "reason" in refused(999, call(client, run_dir))


@pytest.mark.long
def test_an_agent_that_accepts_and_never_answers_is_given_up_after_a_minute(client: Command, run_dir: Path) -> None:
    run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run_dir / protocol.SOCKET))
        server.listen(8)
        processes = [start(client, run_dir, command) for command in ("ADD", "DEL")]
        connections = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
            connections.append(server.accept()[0])
            connections[-1].send(protocol.ACCEPTED)
        for process in processes:
            output, _ = process.communicate(timeout=70)
            assert "60 s" in refused(11, (process.returncode, output))
        for connection in connections:
            connection.close()


# -- the runtime goes away --


def test_a_runtime_that_does_not_read_the_answer_sees_a_failure_not_a_signal(client: Command, run_dir: Path) -> None:
    """stdout's other end is closed; stdout is closed; stdout is full."""
    environment = {"CNI_COMMAND": "ADD", "NETLOOM_RUN_DIR": str(run_dir), "CNI_NETNS": "/proc/self/ns/net"}
    reading, writing = os.pipe()
    os.close(reading)
    with agent(run_dir, answering(0, b"{}")):
        gone = subprocess.run(client, env=environment, input=CONFIG, stdout=writing, timeout=60, check=False)
        closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *client], env=environment, input=CONFIG, timeout=60, check=False)
        full = subprocess.run(
            ["sh", "-c", '"$@" >/dev/full', "sh", *client], env=environment, input=CONFIG, timeout=60, check=False
        )
    os.close(writing)
    assert (gone.returncode, closed.returncode, full.returncode) == (1, 1, 1)


@pytest.mark.long
def test_a_runtime_that_never_reads_a_large_answer_is_given_up_after_a_minute(client: Command, run_dir: Path) -> None:
    with agent(run_dir, answering(0, b"x" * 200_000)):
        process = start(client, run_dir)
        assert process.stdin is not None
        process.stdin.write(CONFIG)
        process.stdin.close()
        began = time.monotonic()
        assert process.wait(protocol.OUTPUT_SECONDS + 5) == 1
        assert time.monotonic() - began > protocol.OUTPUT_SECONDS - 1
        assert process.stdout is not None
        process.stdout.close()


def test_an_answer_goes_through_a_pipe_that_does_not_block(client: Command, run_dir: Path) -> None:
    answer = os.urandom(300_000)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with agent(run_dir, answering(0, answer)):
        environment = {"CNI_COMMAND": "ADD", "NETLOOM_RUN_DIR": str(run_dir)}
        process = subprocess.Popen(client, env=environment, stdin=subprocess.DEVNULL, stdout=writing)
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read() == answer
        assert process.wait(timeout=60) == 0


def test_a_client_that_is_stopped_and_continued_goes_on(client: Command, run_dir: Path) -> None:
    """The signals interrupt its system calls."""
    with agent(run_dir, answering(0, b"{}")):
        process = start(client, run_dir)
        for _ in range(5):
            time.sleep(0.02)
            subprocess.run(["kill", "-STOP", str(process.pid)], check=True)
            subprocess.run(["kill", "-CONT", str(process.pid)], check=True)
        assert process.communicate(CONFIG, timeout=60) == (b"{}", b"")


# -- hostile calls --


def judge(connection: socket.socket, call: Call, descriptors: Sequence[int]) -> None:
    try:
        messages.parse(call.environment, call.stdin, NETNS, HOST)
    except CniError as error:
        answering(1, encode_error(error, messages.version_of(call.stdin)))(connection, call, descriptors)
    else:
        answering(0, b"{}")(connection, call, descriptors)


EXAMPLES = {("", 1): 500, (".py", 1): 250, ("", 2): 50}
"""Of a native client, of the Python one, and of one that is emulated: they take longer and longer to start."""


def test_every_hostile_call_has_a_valid_answer(client: Command, run_dir: Path) -> None:
    @settings(
        max_examples=EXAMPLES[Path(client[-1]).suffix, len(client)],
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(hostile_calls())
    def check(hostile: tuple[dict[str, str], bytes]) -> None:
        environment, stdin = hostile
        process = subprocess.Popen(
            client,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | {"NETLOOM_RUN_DIR": str(run_dir)},
        )
        output, error = process.communicate(stdin, timeout=60)
        if not environment.get("CNI_COMMAND"):
            assert (process.returncode, output) == (0, b"")
            return
        document = json.loads(output)
        assert error == b""
        if process.returncode:
            assert document["code"] in {1, 2, 4, 6, 7}
            assert document["msg"]
            assert document["cniVersion"]
        else:
            assert document == {} or environment["CNI_COMMAND"] == "VERSION"

    with agent(run_dir, judge):
        check()
