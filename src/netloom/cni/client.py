#!/usr/bin/python3 -ISB
"""The CNI plugin that the runtime executes: hands the call to the agent and prints its answer.

    runtime ──environment, stdin──▶ client ──one frame, CNI_NETNS as a descriptor──▶ agent
    runtime ◀──stdout, exit code─── client ◀──accepting byte, then the answer─────── agent

It answers by itself what needs no agent: VERSION, a command that does not exist, input beyond the bounds, and an agent that is
down.  A DEL that finds no agent becomes a tombstone, a file that the agent works off later, so that pods can go at any time.

The tricky thing is the start: this runs for every pod, and the interpreter alone takes 6 ms.  So it imports built-in modules
only, none of the standard library and nothing of Netloom; the frame is described in protocol.py and stated here again.
native/client.c does the same duties in the same words; one test suite runs against both.
"""

import _socket
import posix
import select
import time

FORWARDED = (b"ADD", b"CHECK", b"DEL", b"GC", b"STATUS")
INVALID_ENVIRONMENT, IO_FAILURE, TRY_AGAIN, NOT_AVAILABLE, INTERNAL = 4, 5, 11, 50, 999

MAGIC, ACCEPTED = b"NLM1", b"."
ENVIRONMENT_LIMIT, STDIN_LIMIT, ANSWER_LIMIT = 65536, 1048576, 1048576
STDIN_SECONDS, ACCEPT_SECONDS, ANSWER_SECONDS, OUTPUT_SECONDS = 10, 2, 60, 60
VERSION_SECONDS = 1  # VERSION must be answered, even to a terminal that sends nothing

RUN_DIR = posix.environ.get(b"NETLOOM_RUN_DIR") or b"/run/netloom"
SOCKET, TOMBSTONES = RUN_DIR + b"/cni.sock", RUN_DIR + b"/tombstones"

ABOUT = b"""netloom-cni is a CNI plugin: a container runtime calls it, with CNI_COMMAND in the environment.
It serves the versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0 of the specification.
"""
SUPPORTED = b'"supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]'
FALLBACK_VERSION = b"1.0.0"
NO_TOMBSTONE = b"the agent of this node does not answer, and the deletion cannot be noted for it"


class Refusal(Exception):
    """Code and message of an error document."""

    def __init__(self, code: int, message: bytes) -> None:
        self.code, self.message = code, message


class AgentDown(Exception):
    pass


def main() -> int:
    keep_standard_descriptors()
    command = posix.environ.get(b"CNI_COMMAND")
    if not command:
        return 0 if write_all(2, ABOUT) else 1
    stdin = b""
    try:
        if command not in FORWARDED:
            stdin = read_version_input()
            if command == b"VERSION":
                return print_document(0, version(stdin), SUPPORTED)
            raise Refusal(INVALID_ENVIRONMENT, b"CNI_COMMAND is none of ADD, DEL, CHECK, GC, STATUS, VERSION")
        stdin = read_stdin(STDIN_SECONDS)
        return forward(command, pack_request(stdin))
    except Refusal as e:
        return print_document(1, version(stdin), b'"code":%d,"msg":"%s"' % (e.code, e.message))


def forward(command: bytes, frame: bytes) -> int:
    """Asks the agent and prints what it says; the exit code."""
    unavailable = NOT_AVAILABLE if command == b"STATUS" else TRY_AGAIN
    try:
        code, output = ask(frame, open_netns())
    except AgentDown:
        if command == b"DEL":
            lay_tombstone(frame)
            return 0
        raise Refusal(unavailable, b"the agent of this node does not answer") from None
    except TimeoutError:
        raise Refusal(unavailable, b"the agent of this node did not finish within 60 s") from None
    if code and not output:
        raise Refusal(INTERNAL, b"the agent of this node failed without a reason")
    return code if write_all(1, output) else 1


def keep_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, a socket would take its place; opened the wrong way round, it fails as a closed one does."""
    for fd, flags in ((0, posix.O_WRONLY), (1, posix.O_RDONLY), (2, posix.O_RDONLY)):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open(b"/dev/null", flags)


def read_version_input() -> bytes:
    try:
        return read_stdin(VERSION_SECONDS)
    except Refusal:
        return b""


def read_stdin(seconds: float) -> bytes:
    """All of stdin, whatever kind of file it is."""
    deadline = time.monotonic() + seconds
    readable = select.poll()
    readable.register(0, select.POLLIN)
    found = b""
    while len(found) <= STDIN_LIMIT:
        if not readable.poll(max(0, deadline - time.monotonic()) * 1000):
            raise Refusal(IO_FAILURE, b"stdin did not end in time")
        try:
            piece = posix.read(0, STDIN_LIMIT + 1)
        except BlockingIOError:
            continue
        except OSError:
            raise Refusal(IO_FAILURE, b"stdin cannot be read") from None
        if not piece:
            return found
        found += piece
    raise Refusal(IO_FAILURE, b"stdin is longer than 1 MiB")


def version(stdin: bytes) -> bytes:
    """The version that the configuration names, found without parsing it."""
    value = stdin.partition(b'"cniVersion"')[2].lstrip(b" \t\r\n")
    value = value[1:].lstrip(b" \t\r\n") if value[:1] == b":" else b""
    value, end, _ = value[1:17].partition(b'"') if value[:1] == b'"' else (b"", b"", b"")
    plain = end and value[:1].isdigit() and not value.strip(b"0123456789.")
    return value if plain else FALLBACK_VERSION


def pack_request(stdin: bytes) -> bytes:
    variables = b"".join(b"%s=%s\0" % v for v in posix.environ.items() if v[0].startswith(b"CNI_"))
    if len(variables) > ENVIRONMENT_LIMIT:
        raise Refusal(INVALID_ENVIRONMENT, b"the variables CNI_* are longer than 64 KiB")
    return MAGIC + len(variables).to_bytes(4, "little") + len(stdin).to_bytes(4, "little") + variables + stdin


def open_netns() -> int | None:
    """The path means something in the runtime's mount namespace only; a FIFO must not hold us up."""
    path = posix.environ.get(b"CNI_NETNS")
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC) if path else None
    except OSError:
        return None


def ask(frame: bytes, netns: int | None) -> tuple[int, bytes]:
    """Exit code and output.  AgentDown: nobody there, or not any more; TimeoutError: it accepted, and works on."""
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    deadline = time.monotonic() + ACCEPT_SECONDS
    try:
        # With a full backlog connect(2) waits; a socket with Python's time-out would fail at once instead.
        agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, ACCEPT_SECONDS.to_bytes(8, "little") + bytes(8))
        agent.connect(SOCKET)
        send_request(agent, frame, netns, deadline)
        if receive(agent, 1, deadline) != ACCEPTED:
            raise AgentDown
    except OSError:
        raise AgentDown from None
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        header = receive(agent, 8, deadline)
        code, length = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
        if code > 255 or length > ANSWER_LIMIT:
            raise AgentDown
        return code, receive(agent, length, deadline)
    except TimeoutError:
        raise
    except OSError:
        raise AgentDown from None


def send_request(agent: _socket.socket, frame: bytes, netns: int | None, deadline: float) -> None:
    rights = [] if netns is None else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns.to_bytes(4, "little"))]
    set_timeout(agent, deadline)
    rest = memoryview(frame)[agent.sendmsg([frame], rights) :]
    while rest:
        set_timeout(agent, deadline)
        rest = rest[agent.send(rest) :]


def receive(agent: _socket.socket, length: int, deadline: float) -> bytes:
    found = b""
    while len(found) < length:
        set_timeout(agent, deadline)
        piece = agent.recv(length - len(found))
        if not piece:
            raise AgentDown
        found += piece
    return found


def set_timeout(agent: _socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    agent.settimeout(left)


def lay_tombstone(frame: bytes) -> None:
    """The agent sees a whole file or none: written under a name that starts with a dot, then renamed."""
    name = b"%d-%d" % (time.time_ns(), posix.getpid())
    temporary = TOMBSTONES + b"/." + name
    try:
        make_directory(RUN_DIR, 0o755)
        make_directory(TOMBSTONES, 0o700)
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
        if not write_all(fd, frame):
            posix.unlink(temporary)
            raise Refusal(TRY_AGAIN, NO_TOMBSTONE)
        posix.rename(temporary, TOMBSTONES + b"/" + name)
    except OSError:
        raise Refusal(TRY_AGAIN, NO_TOMBSTONE) from None


def make_directory(path: bytes, mode: int) -> None:
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        return


def print_document(code: int, spec_version: bytes, body: bytes) -> int:
    return code if write_all(1, b'{"cniVersion":"%s",%s}\n' % (spec_version, body)) else 1


def write_all(fd: int, data: bytes) -> bool:
    """A pipe that is ready takes PIPE_BUF bytes without waiting (pipe(7)); of more it could keep us for ever."""
    deadline = time.monotonic() + OUTPUT_SECONDS
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    rest = memoryview(data)
    while rest:
        try:
            if not writable.poll(max(0, deadline - time.monotonic()) * 1000):
                return False
            rest = rest[posix.write(fd, rest[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue
        except OSError:
            return False
    return True


def run() -> int:
    """The last resort: whatever happens, the runtime reads one error document and no traceback."""
    try:
        return main()
    except BaseException:
        return print_document(1, FALLBACK_VERSION, b'"code":%d,"msg":"the CNI client failed"' % INTERNAL)


if __name__ == "__main__":
    posix._exit(run())
