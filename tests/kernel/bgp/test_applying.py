"""bird.conf and a real BIRD are made to agree, whatever came between."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.bgp import applying
from netloom.bgp.applying import Bird, Rejected
from netloom.bgp.control import Line
from netloom.bgp.rendering import content
from netloom.errors import ConfigError, Unavailable
from netloom.model.routing import Secret
from tests.bird_pair import Node
from tests.waiting import eventually

Pair = tuple[Node, Node]


def held(node: Node) -> str:
    """The fingerprint of what its BIRD has read."""
    return node.bird.control.ask("eval CONTENT")[-1].text


def logged(node: Node, words: str) -> int:
    return (node.folder / "log").read_text().count(words)


@pytest.fixture
def up(nodes: Pair) -> Pair:
    """With a session between them, as it was at the beginning."""
    a, b = nodes
    a.apply(a.config(a.session(b)))
    eventually(lambda: a.established(b) and b.established(a))
    return a, b


def test_a_change_is_in_the_file_and_in_bird(up: Pair) -> None:
    a, b = up
    before = a.peer(b)
    config = a.config(a.session(b), announced=a.config().announced[:1])
    assert a.apply(config)
    assert Path(a.place.config).read_text() == a.text(config)
    assert held(a) == content(a.text(config))
    eventually(lambda: "fd00:244::1:0/122" not in b.ip("-6", "route"))
    after = a.peer(b)
    assert before is not None and after is not None and after.since == before.since, "the session went down"


def test_equal_text_is_never_told_again(up: Pair) -> None:
    a, b = up
    before, written = logged(a, "Reconfigur"), os.stat(a.place.config).st_mtime_ns
    bird = a.bird
    assert not bird.apply(a.text(a.config(a.session(b))))
    assert not bird.apply(a.text(a.config(a.session(b))))
    assert logged(a, "Reconfigur") == before
    assert os.stat(a.place.config).st_mtime_ns == written


def test_what_is_told_is_confirmed(up: Pair) -> None:
    a, b = up
    a.apply(a.config(a.session(b), draining=True))
    assert not any("undo" in line.text for line in a.bird.control.ask("configure status"))


def test_a_file_that_somebody_edited_is_written_again(up: Pair) -> None:
    a, b = up
    config = a.config(a.session(b))
    Path(a.place.config).write_text("router id 6.6.6.6;\nprotocol device { }\n")
    a.bird.control.ask("configure")
    eventually(lambda: a.peer(b) is None)
    assert a.apply(config)
    assert Path(a.place.config).read_text() == a.text(config)
    eventually(lambda: a.established(b))


def test_the_file_is_for_root_and_birds_group(up: Pair) -> None:
    a, b = up
    secret = Secret("mesh", "password")
    a.secrets[secret] = "staple"
    try:
        a.apply(a.config(a.session(b, password=secret)))
        state = os.stat(a.place.config)
        assert stat.S_IMODE(state.st_mode) == 0o640
        assert (state.st_uid, state.st_gid) == (0, os.stat(Path(a.place.config).parent).st_gid)
        assert [path.name for path in Path(a.place.config).parent.iterdir()] == ["bird.conf"]
    finally:
        a.secrets.clear()


def test_a_text_that_bird_cannot_read_replaces_nothing(up: Pair) -> None:
    a, b = up
    good = Path(a.place.config).read_text()
    bird = a.bird
    with pytest.raises(Rejected, match="syntax error"):
        bird.apply("protocol nonsense { }\n")
    assert Path(a.place.config).read_text() == good
    assert a.established(b)
    with pytest.raises(Rejected, match="syntax error"):  # from memory: BIRD is not asked again
        bird.apply("protocol nonsense { }\n")
    assert not bird.apply(good)


def test_without_the_program_bird_itself_is_asked(up: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = up
    bird = Bird(replace(a.place, program=""))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(applying, "_SBIN", "/nowhere")
    good = Path(a.place.config).read_text()
    with pytest.raises(Rejected, match="syntax error"):
        bird.apply("protocol nonsense { }\n")
    assert Path(a.place.config).read_text() == good
    assert bird.apply(a.text(a.config(a.session(b), draining=True)))


def test_sessions_that_go_down_bring_the_old_file_back(up: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of what the new text does not say anything about: here the router ID, and a peer that then refuses."""
    a, b = up
    good = Path(a.place.config).read_text()
    monkeypatch.setattr(applying, "_PATIENCE", 3.0)
    clash = a.config(a.session(b), router_id=b.config().router_id)
    with pytest.raises(Rejected, match="took sessions down that it does not change: mesh_b"):
        a.apply(clash)
    assert Path(a.place.config).read_text() == good
    assert held(a) == content(good)
    eventually(lambda: a.established(b))


def test_a_session_that_the_change_is_about_may_take_its_time(up: Pair) -> None:
    a, b = up
    assert a.apply(a.config(a.session(b, remote_as=64999)))
    assert not a.established(b)
    b.apply(b.config(b.session(a, local_as=64999)))
    eventually(lambda: a.established(b))
    b.apply(b.config(b.session(a)))


def test_it_is_known_beforehand_which_sessions_a_text_would_end(up: Pair) -> None:
    a, b = up
    name = a.session(b).name
    same = a.config(a.session(b))
    assert a.bird.ended_by(a.text(same)) == set()
    assert a.bird.ended_by(a.text(a.config(a.session(b), draining=True))) == set()
    for config in (a.config(), a.config(a.session(b, hold_time=45)), a.config(a.session(b, remote_as=64999))):
        assert a.bird.ended_by(a.text(config)) == {name}
    good = Path(a.place.config).read_text()
    Path(a.place.config).write_text(a.text(a.config()))  # whoever wrote it was killed before BIRD was told
    assert a.bird.ended_by(a.text(a.config())) == {name}
    Path(a.place.config).write_text(good)


def test_a_peer_that_dies_just_then_is_not_the_changes_fault(fresh: Pair) -> None:
    a, b = fresh
    for node, other in ((a, b), (b, a)):
        node.write(node.config(node.session(other, restart_time=None)))
        node.start()
    eventually(lambda: a.established(b))
    bird = a.bird
    ask = bird.control.ask

    def ask_when_the_peer_has_gone(command: str, *arguments: int) -> list[Line]:
        if command.startswith("configure timeout"):
            b.stop(signal.SIGKILL)
            eventually(lambda: not a.established(b))
        return ask(command, *arguments)

    bird.control.ask = ask_when_the_peer_has_gone  # type: ignore[method-assign]  # that moment
    changed = a.text(a.config(a.session(b, restart_time=None), draining=True))
    assert bird.apply(changed)
    assert held(a) == content(changed)


def test_a_bird_that_is_away_gets_it_when_it_comes(fresh: Pair) -> None:
    a, b = fresh
    config = a.config(a.session(b))
    bird = a.bird
    with pytest.raises(Unavailable, match="No such file"):
        bird.apply(a.text(config))
    assert Path(a.place.config).read_text() == a.text(config), "it could not start without"
    a.start()
    assert not bird.apply(a.text(config))
    changed = a.text(a.config(a.session(b), draining=True))
    a.stop(signal.SIGKILL)
    with pytest.raises(Unavailable):
        bird.apply(changed)
    a.start()
    assert not bird.apply(changed)
    assert held(a) == content(changed)


def test_a_bird_that_read_an_older_file_gets_the_newer_one(fresh: Pair) -> None:
    a, b = fresh
    a.write(a.config(a.session(b)))
    a.start()
    newer = a.config(a.session(b), draining=True)
    a.write(newer)  # as if whoever wrote it was killed then
    assert a.apply(newer)
    assert held(a) == content(a.text(newer))


def test_a_bird_that_stands_still_holds_nobody_up(fresh: Pair) -> None:
    a, b = fresh
    a.write(a.config(a.session(b)))
    a.start()
    a.stop(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="stands still"):
            applying.Control(a.place.socket, seconds=0.3).ask("show status")
        bird = a.bird
        bird.control = applying.Control(a.place.socket, seconds=0.3)
        with pytest.raises(Unavailable, match="stands still"):
            bird.apply(a.text(a.config(a.session(b), draining=True)))
    finally:
        a.stop(signal.SIGCONT)
    eventually(lambda: _applied(a, b))


def _applied(a: Node, b: Node) -> bool:
    a.apply(a.config(a.session(b), draining=True))
    return held(a) == content(a.text(a.config(a.session(b), draining=True)))


def test_a_bird_with_another_file_is_named(fresh: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fresh
    a.write(a.config())
    a.start()
    bird = Bird(replace(a.place, config=str(a.folder / "state/other.conf")))
    monkeypatch.setattr(applying, "_PATIENCE", 0.3)
    with pytest.raises(Rejected, match=r"BIRD reads another file; start it with -c .*other\.conf"):
        bird.apply(a.text(a.config(a.session(b))))


def test_a_folder_that_is_not_there_is_made(fresh: Pair) -> None:
    a, _ = fresh
    place = replace(a.place, config=str(a.folder / "made/bird.conf"))
    with pytest.raises(Unavailable):
        Bird(place).apply(a.text(None))
    assert stat.S_IMODE(os.stat(a.folder / "made").st_mode) == 0o2750


def test_a_full_or_missing_disk_is_said(fresh: Pair) -> None:
    a, _ = fresh
    (a.folder / "made").write_text("a file, where the folder has to be")
    with pytest.raises(ConfigError, match="made"):
        Bird(replace(a.place, config=str(a.folder / "made/bird.conf"))).apply(a.text(None))


STOPS = ("_write", "_check", "_replace", "_content_of_bird", "_configure", "_missing", "_confirm_once")
KILLED = """
import os, signal, sys
from pathlib import Path
from netloom.bgp import applying
from netloom.bgp.applying import Bird, Place
step, when = sys.argv[5], sys.argv[6]
whole = getattr(Bird, step)
def dies(*arguments, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    whole(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Bird, step, dies)
Bird(Place(sys.argv[1], sys.argv[2], sys.argv[3])).apply(Path(sys.argv[4]).read_text())
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STOPS)
def test_a_kill_at_any_step_leaves_a_file_to_start_with_and_the_next_one_ends_it(up: Pair, step: str, when: str) -> None:
    a, b = up
    wanted = a.config(a.session(b), announced=a.config().announced[:1], draining=when == "after", ignored=(step,))
    text = a.folder / "wanted"
    text.write_text(a.text(wanted))
    arguments = (a.place.config, a.place.socket, a.place.program, str(text), step, when)
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, env=os.environ | {"PYTHONPATH": "src"})
    assert done.returncode in (-signal.SIGKILL, 0)
    check = [a.place.program, "-p", "-c", a.place.config]
    assert subprocess.run(check, check=False, capture_output=True).returncode == 0
    a.apply(wanted)
    assert held(a) == content(a.text(wanted))
    assert Path(a.place.config).read_text() == a.text(wanted)
    assert not any("undo" in line.text for line in a.bird.control.ask("configure status"))
    assert a.established(b)
