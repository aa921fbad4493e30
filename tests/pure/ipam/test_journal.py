from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netloom.errors import ConfigError, JournalDamaged, JournalUnwritable
from netloom.ipam import journal as journals
from netloom.ipam.holdings import Cool, Gone, Hold, Mark
from netloom.ipam.journal import Journal, boottime
from netloom.ipam.journal_lines import Header, line, read, replay
from netloom.model.addresses import parse_address
from netloom.model.attachments import NetnsId, State
from tests.pure.ipam.making import BOOT, NETNS, attachment, key


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def reopened(journal: Journal, path: str) -> Journal:
    journal.close()
    return Journal.open(path, BOOT, NETNS)


def state_of(journal: Journal) -> tuple[object, ...]:
    holdings = journal.holdings
    return dict(holdings.attachments), holdings.sequence, holdings.used, holdings.released


def live_through(journal: Journal, name: str, *addresses: str, at: float = 1.0) -> None:
    journal.intend(attachment(name, journal.next_sequence(), *addresses))
    journal.commit(key(name))
    journal.leave(key(name))
    journal.done(key(name), at)


# lives


def test_an_attachment_survives_its_agent_in_each_state(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    for number, name in enumerate(("pending", "ready", "leaving", "gone"), start=2):
        journal.intend(attachment(name, journal.next_sequence(), f"10.244.0.{number}/32", f"fd00::{number}/128"))
    journal.commit(key("ready"))
    journal.commit(key("leaving"))
    journal.leave(key("leaving"))
    journal.leave(key("gone"))
    journal.done(key("gone"), 17.5)

    again = reopened(journal, path)

    assert {k.container_id: a.state for k, a in again.attachments.items()} == {
        "pending": State.PENDING,
        "ready": State.READY,
        "leaving": State.LEAVING,
    }
    assert state_of(again) == state_of(journal)
    assert again.holdings.released[4] == {int(parse_address("10.244.0.5")): 17.5}


def test_a_leaving_attachment_still_holds_its_addresses(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    journal.commit(key("a"))
    journal.leave(key("a"))

    assert int(parse_address("10.244.0.2")) in journal.holdings.used[4]
    with pytest.raises(ValueError, match="is held by"):
        journal.intend(attachment("b", journal.next_sequence(), "10.244.0.2/32"))


def test_leaving_and_being_gone_may_be_said_twice_and_of_nobody(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    assert journal.leave(key("nobody")) is None
    journal.done(key("nobody"), 1.0)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    first, second = journal.leave(key("a")), journal.leave(key("a"))
    assert first == second
    journal.done(key("a"), 1.0)
    journal.done(key("a"), 2.0)
    assert reopened(journal, path).holdings.released[4] == {int(parse_address("10.244.0.2")): 1.0}


def test_a_commit_after_a_del_is_refused(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    journal.leave(key("a"))
    with pytest.raises(ValueError, match="is not pending"):
        journal.commit(key("a"))


def test_a_key_that_is_attached_is_not_attached_again(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    with pytest.raises(ValueError, match="is attached already"):
        journal.intend(attachment("a", journal.next_sequence(), "10.244.0.3/32"))
    assert reopened(journal, path).attachments.keys() == {key("a")}


def test_a_copy_of_the_attachments_does_not_change(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    before = journal.attachments
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    assert before == {}


# sequence numbers


def test_sequence_numbers_never_go_back(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    seen = [journal.next_sequence()]
    for turn in range(20):
        live_through(journal, f"p{turn}", "10.244.0.2/32", at=turn)
        seen.append(journal.next_sequence())
        if turn % 5 == 0:
            journal = reopened(journal, path)
            seen.append(journal.next_sequence())
        if turn % 7 == 0:
            journal._compact()
            journal = reopened(journal, path)
            seen.append(journal.next_sequence())
    journal.close()
    os.unlink(path)
    seen.append(Journal.rebuild(path, BOOT, NETNS).next_sequence())
    assert seen == sorted(seen)
    assert seen[-1] > seen[-2]


def test_an_intent_without_a_new_number_is_refused(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    with pytest.raises(ValueError, match="not a new intent"):
        journal.intend(attachment("a", journal.next_sequence() - 1, "10.244.0.2/32"))


# compaction


def test_a_journal_that_has_grown_is_written_anew_and_says_the_same(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS, compact_at=4096)
    journal.intend(attachment("stays", journal.next_sequence(), "10.244.0.200/32"))
    journal.commit(key("stays"))
    sizes = []
    for turn in range(100):
        live_through(journal, f"p{turn}", f"10.244.0.{turn % 8}/32", at=turn)
        sizes.append(os.path.getsize(path))
    assert max(sizes) < 3 * 4096
    assert state_of(reopened(journal, path)) == state_of(journal)


def test_what_a_compaction_left_when_it_was_killed_does_no_harm(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    live_through(journal, "a", "10.244.0.2/32")
    Path(f"{path}.new").write_bytes(b"half a hea")
    again = reopened(journal, path)
    assert state_of(again) == state_of(journal)
    again._compact()
    assert state_of(reopened(again, path)) == state_of(journal)


# torn tails and damage


def history(path: str) -> list[tuple[int, tuple[object, ...]]]:
    """A life of a node: after each record, the length of the file and the state."""
    journal = Journal.rebuild(path, BOOT, NETNS)
    steps = [(os.path.getsize(path), copied(journal))]
    for name, address in (("a", "10.244.0.2/32"), ("b", "fd00::2/128"), ("c", "10.244.0.3/32")):
        journal.intend(attachment(name, journal.next_sequence(), address))
        steps.append((os.path.getsize(path), copied(journal)))
        journal.commit(key(name))
        steps.append((os.path.getsize(path), copied(journal)))
    journal.leave(key("b"))
    steps.append((os.path.getsize(path), copied(journal)))
    journal.done(key("b"), 3.0)
    steps.append((os.path.getsize(path), copied(journal)))
    journal.close()
    return steps


def copied(journal: Journal) -> tuple[object, ...]:
    holdings = journal.holdings
    used = {version: dict(numbers) for version, numbers in holdings.used.items()}
    released = {version: dict(stamps) for version, stamps in holdings.released.items()}
    return dict(holdings.attachments), holdings.sequence, used, released


def test_every_prefix_of_a_journal_is_an_earlier_state_or_damaged_in_the_header(path: str) -> None:
    steps = history(path)
    data = Path(path).read_bytes()
    header_end = steps[0][0]
    for length in range(len(data) + 1):
        Path(path).write_bytes(data[:length])
        if length < header_end:
            with pytest.raises(JournalDamaged):
                Journal.open(path, BOOT, NETNS)
            continue
        journal = Journal.open(path, BOOT, NETNS)
        end, expected = max((step for step in steps if step[0] <= length), key=lambda step: step[0])
        assert copied(journal) == expected
        assert os.path.getsize(path) == end, "the torn tail is cut off"
        live_through(journal, "later", "10.244.0.9/32")
        journal.close()
        assert replay(Path(path).read_bytes()).length == os.path.getsize(path), "and writing goes on behind a whole record"


def test_a_changed_byte_anywhere_but_in_the_last_line_end_is_damage(path: str) -> None:
    history(path)
    data = Path(path).read_bytes()
    for place in range(len(data) - 1):
        for other in (data[place] ^ 1, data[place] ^ 0x80, 0):
            with pytest.raises(JournalDamaged):
                replay(data[:place] + bytes((other,)) + data[place + 1 :])


def test_a_lost_line_is_damage_where_something_follows_from_it(path: str) -> None:
    history(path)
    lines = Path(path).read_bytes().splitlines(keepends=True)
    with pytest.raises(JournalDamaged, match="line 2: no attachment has the sequence number"):
        replay(lines[0] + b"".join(lines[2:]))


HEADER = line(Header(boot=BOOT, netns=NETNS))


@given(st.binary(max_size=400))
@example(b"")
@example(b"\n")
@example(b"\n\n\n")
@example(b"[" * 400)
def test_random_bytes_are_damage_or_a_torn_tail(data: bytes) -> None:
    for start in (b"", HEADER):
        try:
            found = replay(start + data)
        except JournalDamaged:
            continue
        assert found.length <= len(start + data)


RECORDS = st.one_of(
    st.builds(Hold, st.builds(attachment, st.sampled_from("abc"), st.integers(-1, 5), st.just("10.244.0.2/32"))),
    st.builds(Mark, st.integers(-1, 5), st.sampled_from(State)),
    st.builds(Gone, st.integers(-1, 5), st.floats(allow_nan=False)),
    st.builds(
        Cool,
        st.sampled_from(list(map(parse_address, ("10.244.0.2", "fd00::2")))),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
)


@given(st.lists(RECORDS, max_size=12))
@example([Cool(parse_address("10.244.0.2"), 1.0), Hold(attachment("a", 1, "10.244.0.2/32"))])
@example([Hold(attachment("a", 1, "10.244.0.2/32")), Cool(parse_address("10.244.0.2"), 1.0)])
def test_records_in_any_order_are_damage_or_make_sense(records: list[object]) -> None:
    try:
        holdings = replay(HEADER + b"".join(map(line, records))).holdings
    except JournalDamaged:
        return
    for version, used in holdings.used.items():
        assert all(count > 0 for count in used.values())
        assert not used.keys() & holdings.released[version].keys()


@given(st.text(max_size=300), st.integers())
def test_lines_with_a_right_checksum_and_wrong_content_are_damage(text: str, number: int) -> None:
    for content in (text.encode(), b'{"is":"mark","sequence":%d,"state":"ready"}' % number, b'{"is":' + b"[" * 3000):
        if b"\n" in content:
            continue
        with pytest.raises(JournalDamaged):
            replay(HEADER + b"%08x %b\n" % (zlib.crc32(content), content))


# whose journal


def test_after_a_reboot_every_address_is_free_at_once(path: str) -> None:
    journal = Journal.rebuild(path, "the boot before", NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    live_through(journal, "b", "10.244.0.3/32")
    journal.close()
    again = Journal.open(path, BOOT, NETNS)
    assert (again.attachments, again.holdings.used[4], again.holdings.released[4]) == ({}, {}, {})
    assert reopened(again, path).attachments == {}


def test_the_journal_of_another_network_namespace_is_not_ours(path: str) -> None:
    Journal.rebuild(path, BOOT, NETNS).close()
    with pytest.raises(JournalDamaged, match="belongs to network namespace 4:4026531833, this is 4:7"):
        Journal.open(path, BOOT, NetnsId(4, 7))


def test_a_lost_journal_is_rebuilt_from_what_the_kernel_shows(path: str) -> None:
    with pytest.raises(JournalDamaged, match="cannot be read: No such file"):
        Journal.open(path, BOOT, NETNS)
    seen = [attachment("a", 0, "10.244.0.2/32", state=State.READY), attachment("b", 0, "10.244.0.3/32", state=State.READY)]
    journal = Journal.rebuild(path, BOOT, NETNS, seen)
    assert [a.state for a in journal.attachments.values()] == [State.READY, State.READY]
    assert len({a.sequence for a in journal.attachments.values()}) == 2
    assert reopened(journal, path).attachments == journal.attachments


def test_a_kernel_that_shows_an_address_twice_keeps_it_in_use_until_both_are_gone(path: str) -> None:
    seen = [attachment(name, 0, "10.244.0.2/32", state=State.READY) for name in ("a", "b")]
    journal = Journal.rebuild(path, BOOT, NETNS, seen)
    journal.done(key("a"), 1.0)
    assert int(parse_address("10.244.0.2")) in journal.holdings.used[4]
    journal.done(key("b"), 2.0)
    assert journal.holdings.used[4] == {}


def test_a_damaged_journal_is_set_aside_when_it_is_rebuilt(path: str) -> None:
    Path(path).write_bytes(b"nonsense\n")
    Journal.rebuild(path, BOOT, NETNS)
    assert Path(f"{path}.damaged").read_bytes() == b"nonsense\n"


def test_two_agents_on_one_directory_refuse_clearly(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    for attempt in (Journal.open, Journal.rebuild):
        with pytest.raises(ConfigError, match="another agent is running on this directory"):
            attempt(path, BOOT, NETNS)
    journal._compact()
    with pytest.raises(ConfigError):
        Journal.open(path, BOOT, NETNS)
    reopened(journal, path)


def test_anybody_may_look_while_an_agent_writes(path: str) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    assert read(path).holdings.attachments == journal.attachments


def test_nobody_else_can_read_it(path: str) -> None:
    Journal.rebuild(path, BOOT, NETNS)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_directory_that_is_not_there_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the journal cannot be kept: No such file"):
        Journal.open(str(tmp_path / "missing" / "journal"), BOOT, NETNS)


# killed at any moment

VICTIM = """
import sys
from tests.pure.ipam.making import BOOT, NETNS, attachment, key
from netloom.ipam.journal import Journal
journal = Journal.rebuild(sys.argv[1], BOOT, NETNS, compact_at=20000)
turn = 0
while True:
    turn += 1
    journal.intend(attachment(f"p{turn}", journal.next_sequence(), f"10.{turn >> 16 & 255}.{turn >> 8 & 255}.{turn & 255}/32"))
    journal.commit(key(f"p{turn}"))
    if turn > 20:
        journal.done(key(f"p{turn - 20}"), float(turn))
    print(turn, flush=True)
"""


def test_an_agent_killed_while_it_writes_loses_nothing_that_it_went_on_from(path: str) -> None:
    for answers in (3, 30, 200):
        victim = subprocess.Popen([sys.executable, "-c", VICTIM, path], stdout=subprocess.PIPE)
        assert victim.stdout
        for _ in range(answers):
            last = int(victim.stdout.readline())
        victim.send_signal(signal.SIGKILL)
        rest = victim.stdout.read().splitlines()
        victim.wait()
        last = int(rest[-1]) if rest else last

        journal = Journal.open(path, BOOT, NETNS)
        names = {k.container_id for k, a in journal.attachments.items() if a.state is State.READY}
        assert {f"p{n}" for n in range(max(1, last - 18), last + 1)} <= names
        journal.close()


# a full disk; a real one is in tests/kernel/ipam

ENDLESS = resource.RLIM_INFINITY


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """From the call on this process can make no file longer than so many bytes."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, ENDLESS))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield limit
    limit(ENDLESS)
    signal.signal(signal.SIGXFSZ, before)


def test_an_intent_that_cannot_be_written_changes_nothing(path: str, limit_files: Callable[[int], None]) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    live_through(journal, "a", "10.244.0.2/32")
    before, size = copied(journal), os.path.getsize(path)
    limit_files(size + 100)
    with pytest.raises(JournalUnwritable, match=f"{path} cannot be written"):
        journal.intend(attachment("b", journal.next_sequence(), "10.244.0.3/32"))
    assert (copied(journal), os.path.getsize(path)) == (before, size)
    limit_files(ENDLESS)
    journal.intend(attachment("b", journal.next_sequence(), "10.244.0.3/32"))
    assert copied(reopened(journal, path)) == copied(journal)


def test_a_del_goes_on_when_nothing_can_be_written_and_is_made_up_for(path: str, limit_files: Callable[[int], None]) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    journal.commit(key("a"))
    on_disk = Path(path).read_bytes()
    limit_files(len(on_disk) + 10)
    journal.leave(key("a"))
    journal.done(key("a"), 5.0)
    assert journal.attachments == {}
    assert journal.owes
    assert replay(Path(path).read_bytes()).holdings.attachments[key("a")].state is State.READY, "held too long, not too short"

    limit_files(ENDLESS)
    journal.intend(attachment("b", journal.next_sequence(), "10.244.0.2/32"))
    assert not journal.owes
    assert copied(reopened(journal, path)) == copied(journal)


def test_what_is_owed_survives_as_one_piece_at_every_torn_byte(path: str, limit_files: Callable[[int], None]) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    size = os.path.getsize(path)
    limit_files(size)
    journal.done(key("a"), 5.0)
    limit_files(ENDLESS)
    journal.intend(attachment("b", journal.next_sequence(), "10.244.0.2/32"))
    data = Path(path).read_bytes()
    for length in range(size, len(data) + 1):
        holders = list(replay(data[:length]).holdings.attachments)
        assert len(holders) <= 1


def test_a_compaction_that_finds_no_room_leaves_the_old_file(path: str, limit_files: Callable[[int], None]) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    live_through(journal, "a", "10.244.0.2/32")
    limit_files(20)
    journal._compact()
    assert not os.path.exists(f"{path}.new")
    limit_files(ENDLESS)
    live_through(journal, "b", "10.244.0.3/32")
    assert copied(reopened(journal, path)) == copied(journal)


def test_a_line_that_could_not_be_taken_back_is_never_written_behind(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.rebuild(path, BOOT, NETNS)
    write = os.write

    def half(fd: int, data: bytes) -> int:
        write(fd, data[: len(data) // 2])
        raise OSError(errno.EIO, "Input/output error")

    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", half)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(JournalUnwritable):
            journal.intend(attachment("a", journal.next_sequence(), "10.244.0.2/32"))
    journal.intend(attachment("b", journal.next_sequence(), "10.244.0.2/32"))
    again = reopened(journal, path)
    assert again.attachments.keys() == {key("b")}


def test_the_rest_of_a_life_is_never_longer_than_what_is_reserved_for_it() -> None:
    longest = 1 << 63
    records = (Mark(longest, State.READY), Mark(longest, State.LEAVING), Gone(longest, 1e300 / 3))
    assert sum(len(line(record)) for record in records) <= journals._REST_OF_LIFE


def test_the_clock_goes_on_while_the_machine_sleeps() -> None:
    with open("/proc/uptime") as file:
        assert abs(boottime() - float(file.read().split()[0])) < 1
