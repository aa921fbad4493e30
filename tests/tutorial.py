"""docs/tutorial.md, as a reader has it: commands are typed into a shell, and what comes out is laid beside what the page shows.

    python -m tests.tutorial             runs the page and says where it is wrong
    python -m tests.tutorial --update    and puts what came out into it

The machine is tools/playground's, so nothing of this one is touched.  What the page shows was real output of one run.  Some of it is
another thing on each run (MAC addresses, names of interfaces, ports): such a *token* has to be the same one wherever the page
repeats it, and where the page types it, what is typed is the reader's own.  Other things mean nothing (times, indexes, columns of
blanks) and are taken out on both sides: `_NOISE`.

    ```console                       `$ ` is what is typed; the rest is what comes out
    ```json /etc/some/file           a file that the reader writes
        tools/playground             a new machine
"""

from __future__ import annotations

import difflib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
PLAYGROUND = ROOT / "tools" / "playground"

_PROMPT = "$ "
_NEW = "    tools/playground"
_END = "\x1e"  # the record separator: no program prints it
_PATIENCE = 60.0
_PAUSE, _START = 0.05, 0.7  # seconds that a reader needs anyway: to read, and after something was put into the background

_TOKENS = re.compile(
    r"(?P<mac>\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b)"
    r"|(?P<interface>\bloom[0-9a-f]{11}\b|\bveth[0-9a-f]{8}\b)"
    r"|(?P<link>\bfe80::[0-9a-f:]+[0-9a-f]\b)"
    r"|(?P<address>\b10\.244\.\d+\.\d+\b|\bfd00:10:244:[0-9a-f:]+[0-9a-f]\b)"
    r"|(?P<port>(?<=[=.])(?:3[2-9]\d{3}|[45]\d{4}|6[0-5]\d{3})\b)"
)
_FIXED = frozenset({"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "ee:ee:ee:ee:ee:ee", "fe80::1"})
_NOISE = (
    (re.compile(r"^\d+: (?=\S+: <)", re.MULTILINE), ""),  # an interface's index
    (re.compile(r"(?<=\w)@[\w.-]+|\(id: \d+\)|link-netnsid \d+"), ""),  # its other end, in another namespace
    (re.compile(r"\b(?:REACHABLE|DELAY|STALE|PROBE)\b"), ""),
    (re.compile(r"\bUNKNOWN\b"), "UP"),  # for up to a second the kernel has not said yet that a link is up
    (re.compile(r"\btime[=<][\d.]+ ms|, time \d+ms|^rtt .*$", re.MULTILINE), ""),
    (re.compile(r"^\d\d:\d\d:\d\d\.\d+ ", re.MULTILINE), ""),  # tcpdump's clock
    (re.compile(r"\b(?:id|seq|ack|ecr|val|win|cksum) (?:0x)?[0-9a-f]+(?::\d+)?"), ""),
    (re.compile(r"^(tcp|udp|icmp) +(\d+) \d+ ", re.MULTILINE), r"\1 \2 "),  # how long conntrack keeps an entry
    (re.compile(r"\bid=\d+| \[ASSURED\]| use=\d+"), ""),
    (re.compile(r"^pass \d+, .*$", re.MULTILINE), ""),
    (re.compile(r"^(# (?:Generated|Completed|Warning)).*$", re.MULTILINE), r"\1"),
    (re.compile(r"\bv?\d+\.\d+\.\d+ \(nf_tables\)"), ""),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:s|ms|milliseconds)\b"), ""),
    (re.compile(r"(?<=\S) +"), " "),
    (re.compile(r" +$", re.MULTILINE), ""),
)


@dataclass(slots=True)
class Step:
    """At `line` of the page: one command, or one file (`file`; `shown` is its content), or, without either, a new machine."""

    line: int
    typed: str = ""
    shown: str = ""
    file: str = ""
    came: str = ""
    code: int = 0


@dataclass(slots=True)
class Section:
    title: str
    steps: list[Step] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """Those with something to do in them."""
    found = [Section("before the first chapter")]
    fence, path, step = "", "", None
    for number, line in enumerate(text.splitlines(), 1):
        if not fence and line.startswith("## "):
            found.append(Section(line[3:]))
        elif line.startswith("```"):
            step = None
            language, _, path = ("" if fence else line[3:]).partition(" ")
            fence = "" if fence else language or "text"
            if path:
                step = Step(number, file=path)
                found[-1].steps.append(step)
        elif not fence and line == _NEW:
            found[-1].steps.append(Step(number))
        elif fence == "console" and line.startswith(_PROMPT):
            step = Step(number, line.removeprefix(_PROMPT))
            found[-1].steps.append(step)
        elif fence == "console" or path:
            if step is None:
                raise ValueError(f"line {number}: output of no command")
            step.shown += line + "\n"
    return [section for section in found if section.steps]


class Shell:
    """What is typed into it, and what comes out."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._selector = selectors.DefaultSelector()
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def run(self, command: str) -> tuple[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{{ {command}\n}} </dev/null; printf '{_END}%d\\n' $?\n".encode())
        self._process.stdin.flush()
        output, _, code = self._until_end(command).partition(_END)
        time.sleep(_START if command.rstrip().endswith("&") else _PAUSE)
        return output, int(code)

    def write(self, path: str, content: str) -> None:
        quoted = content.replace("'", "'\\''")
        output, code = self.run(f"mkdir -p $(dirname {path}); printf %s '{quoted}' >{path}")
        if code:
            raise OSError(f"{path}: {output}")

    def _until_end(self, command: str) -> str:
        assert self._process.stdout is not None
        deadline, found = time.monotonic() + _PATIENCE, b""
        while not re.search(rf"{_END}\d+\n\Z".encode(), found):
            if not self._selector.select(deadline - time.monotonic()):
                raise TimeoutError(f"{command}: no end after {_PATIENCE:.0f} s: {found[-500:].decode(errors='replace')}")
            more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                raise EOFError(f"{command}: the shell has ended: {found[-500:].decode(errors='replace')}")
            found += more
        return found.decode()


@contextmanager
def shell() -> Iterator[Shell]:
    """One on a machine of its own, which goes with it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([PLAYGROUND, "bash", "--norc"], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    try:
        yield Shell(process)
    finally:
        process.send_signal(signal.SIGKILL)  # with --kill-child the shell goes, and with it, as the first process, all others
        process.communicate()


class Reader:
    """Knows which of the page's tokens is which here."""

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self._own = dict(own or {})

    def read(self, steps: Iterable[Step]) -> None:
        """What follows upon a `sleep` shows what something else has done meanwhile, which may take it longer than a reader."""
        at: Shell | None = None
        slept = False
        with ExitStack() as machine:
            for step in steps:
                if not step.typed and not step.file:
                    machine.close()
                    at = machine.enter_context(shell())
                elif at is None:
                    raise ValueError(f"line {step.line}: there is no machine yet")
                elif step.file:
                    at.write(step.file, self.own(step.shown))
                    step.came = step.shown
                else:
                    patient = time.monotonic() + (_PATIENCE if slept else 0)
                    while True:
                        step.came, step.code = at.run(self.own(step.typed))
                        found = {**learned(step.shown, step.came), **self._own}
                        if Reader(found).agrees(step) or time.monotonic() > patient:
                            break
                    self._own = found
                slept = step.typed.startswith("sleep ")

    def own(self, text: str) -> str:
        return _TOKENS.sub(lambda found: self._own.get(found[0], found[0]), text)

    def as_shown(self, text: str) -> str:
        page = {own: shown for shown, own in self._own.items()}
        return _TOKENS.sub(lambda found: page.get(found[0], found[0]), text)

    def agrees(self, step: Step) -> bool:
        """What came out is what the page shows; where that is nothing, the command has to have succeeded, too."""
        return plain(self.own(step.shown)) == plain(step.came) and (bool(step.shown) or not step.code)

    def difference(self, step: Step) -> str:
        shown, came = step.shown.splitlines(), self.as_shown(step.came).splitlines()
        lines = difflib.unified_diff(shown, came, "the page shows", "what came out", lineterm="")
        return "\n".join((f"{PAGE.name}, line {step.line}: {_PROMPT}{step.typed}", *lines, f"exit code {step.code}"))


def learned(shown: str, came: str) -> Mapping[str, str]:
    """Tokens of the page → those that came in their place."""
    kinds = _TOKENS.groupindex
    return {a: b for kind in kinds for a, b in zip(_tokens(shown, kind), _tokens(came, kind), strict=False)}


def _tokens(text: str, kind: str) -> Sequence[str]:
    return list(
        dict.fromkeys(found[0] for found in _TOKENS.finditer(text) if found.lastgroup == kind and found[0] not in _FIXED)
    )


def plain(text: str) -> str:
    """Without what means nothing."""
    for pattern, instead in _NOISE:
        text = pattern.sub(instead, text)
    return text.rstrip("\n")


def updated(text: str, reader: Reader, steps: Sequence[Step]) -> str:
    """The page with what came out in place of what it shows; nothing else changes but tokens that are typed."""
    lines = text.splitlines()
    for step in reversed(steps):
        if not step.typed:
            continue
        end = step.line + step.shown.count("\n")
        typed = _PROMPT + reader.own(step.typed)
        lines[step.line - 1 : end] = [typed, *(line.rstrip() for line in step.came.strip("\n").splitlines())]
    return "\n".join(lines) + "\n"


def main() -> None:
    text, reader = PAGE.read_text(encoding="utf-8"), Reader()
    steps = [step for section in sections(text) for step in section.steps]
    reader.read(steps)
    wrong = [reader.difference(step) for step in steps if not reader.agrees(step)]
    print(*wrong, sep="\n\n")
    if "--update" in sys.argv[1:]:
        PAGE.write_text(updated(text, reader, steps), encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
