"""Files as they were, as they are wanted, and what the record knows; and a kill at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.errors import ConfigError
from netloom.footprint import record as records
from netloom.footprint.files import File, Layout, conflist, files
from netloom.footprint.installing import Installation, Word, decide
from netloom.footprint.record import Record, digest
from netloom.footprint.removing import Removing
from netloom.footprint.tree import Found, Tree

TEXT = File("/etc/text", b"new")
PLUGIN = File("/opt/cni/bin/netloom", b"new", 0o755, editable=False)
OLD = Record(files={file.path: (digest(b"old"),) for file in (TEXT, PLUGIN)})


@pytest.mark.parametrize(
    ("file", "found", "record", "force", "word"),
    [
        (TEXT, None, Record(), False, Word.CREATED),
        (TEXT, None, OLD, False, Word.CREATED),
        (TEXT, Found(b"new", 0o644), Record(), False, Word.UNCHANGED),
        (TEXT, Found(b"new", 0o600), Record(), False, Word.CONFIGURED),
        (TEXT, Found(b"old", 0o644), OLD, False, Word.CONFIGURED),
        (TEXT, Found(b"mine", 0o644), OLD, False, Word.KEPT),
        (TEXT, Found(b"mine", 0o644), OLD, True, Word.CONFIGURED),
        (TEXT, Found(b"mine", 0o644), Record(), False, None),
        (TEXT, Found(None, 0o755), Record(), False, None),
        (TEXT, Found(b"mine", 0o644), Record(), True, Word.CONFIGURED),
        (PLUGIN, Found(b"damaged", 0o755), OLD, False, Word.CONFIGURED),
        (PLUGIN, Found(b"mine", 0o755), Record(), False, None),
    ],
)
def test_each_file_gets_its_word(file: File, found: Found | None, record: Record, force: bool, word: Word | None) -> None:
    assert decide(file, found, record, force=force) is word


LAYOUT = Layout()


def install(tree: Tree, layout: Layout = LAYOUT, *, force: bool = False) -> list[Word]:
    installation = Installation(tree, files(layout), conflist(layout), force=force)
    installation.begin({})
    return [step.word for step in (*installation.put(), installation.finish())]


def uninstall(tree: Tree) -> list[str]:
    removing = Removing(tree)
    return [f"{path} {word}" for path, word in (*removing.conflist(), *removing.files())]


def contents(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """As a host may be before: some of the directories, things of others in them."""
    for directory in ("etc/cni/net.d", "etc/systemd/system", "opt/cni/bin", "var/lib"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/cni/net.d/87-podman.conflist").write_text("{}")
    (tmp_path / "opt/cni/bin/bridge").write_bytes(b"another plugin")
    return tmp_path


def test_a_host_is_afterwards_as_it_was_before(host: Path) -> None:
    before = contents(host)
    assert set(install(Tree(str(host)))) == {Word.CREATED}
    assert set(install(Tree(str(host)))) == {Word.UNCHANGED}
    uninstall(Tree(str(host)))
    assert contents(host) == before


def test_an_upgrade_replaces_what_is_ours_and_only_that(host: Path) -> None:
    tree = Tree(str(host))
    install(tree, Layout(program="/old/netloom"))
    (host / "etc/systemd/networkd.conf.d/50-netloom.conf").write_text("# mine\n")
    words = install(tree, Layout(program="/new/netloom"))
    assert sorted({word.name for word in words}) == ["CONFIGURED", "KEPT", "UNCHANGED"]
    assert b"/new/netloom" in (host / "etc/systemd/system/netloom-agent.service").read_bytes()
    assert (host / "etc/systemd/networkd.conf.d/50-netloom.conf").read_text() == "# mine\n"


def test_files_of_others_are_all_named_and_nothing_is_done(host: Path) -> None:
    (host / "opt/cni/bin/netloom").write_bytes(b"not ours")
    (host / "etc/cni/net.d/10-netloom.conflist").write_text("{}")
    before = contents(host)
    with pytest.raises(ExceptionGroup) as caught:
        install(Tree(str(host)))
    assert [str(e) for e in caught.value.exceptions] == ["/opt/cni/bin/netloom: is there already, and not ours"]
    assert contents(host) == before
    assert Word.CONFIGURED in install(Tree(str(host)), force=True)


def test_what_was_changed_by_hand_stays_and_the_conflist_moves_aside(host: Path) -> None:
    tree = Tree(str(host))
    install(tree)
    unit, network = host / "etc/systemd/system/netloom-agent.service", host / "etc/cni/net.d/10-netloom.conflist"
    for path in (unit, network):
        path.write_bytes(path.read_bytes() + b" ")
    said = uninstall(tree)
    assert "/etc/systemd/system/netloom-agent.service kept, for it was changed by hand" in said
    assert unit.exists() and not network.exists()
    assert network.with_name("10-netloom.conflist.kept").exists()


def test_a_network_that_was_put_elsewhere_is_not_forgotten(host: Path) -> None:
    install(Tree(str(host)))
    with pytest.raises(ConfigError, match=r"^/etc/cni/net.d/10-netloom.conflist: the network was put there before"):
        install(Tree(str(host)), Layout(cni_conf_dir="/srv/cni"))


class Killed(BaseException):
    pass


class Mortal(Tree):
    """Dies before its `lives`-th change of the host, and half way in writes."""

    def __init__(self, root: str, lives: int) -> None:
        super().__init__(root)
        self.lives = lives

    def _change(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        self._change()
        super().make_directory(path, mode)

    def remove_directory(self, path: str) -> bool:
        self._change()
        return super().remove_directory(path)

    def put(self, path: str, content: bytes, mode: int) -> None:
        if self.lives == 0:
            Path(f"{self.root}{path}.new").write_bytes(content[:5])
        self._change()
        super().put(path, content, mode)

    def move(self, path: str, name: str) -> None:
        self._change()
        super().move(path, name)

    def remove(self, path: str) -> bool:
        self._change()
        return super().remove(path)


def deaths(host: Path, act: str) -> Iterator[int]:
    """Does it with one life more each time, until it gets through."""
    lives = 0
    while True:
        tree = Mortal(str(host), lives)
        try:
            install(tree) if act == "install" else uninstall(tree)
        except Killed:
            yield lives
        else:
            return
        lives += 1


def test_an_installation_that_is_killed_anywhere_can_be_taken_away(host: Path) -> None:
    before = contents(host)
    count = 0
    for count in deaths(host, "install"):
        uninstall(Tree(str(host)))
        left = contents(host).keys() - before.keys()
        assert left <= {"var/lib/netloom", "var/lib/netloom/installed.json.new"}, count
        for name in sorted(left, reverse=True):
            path = host / name
            path.rmdir() if path.is_dir() else path.unlink()
        assert contents(host) == before, count
    assert count > 15


def test_an_installation_that_is_killed_anywhere_goes_on_where_it_was(host: Path) -> None:
    install(Tree(str(host)))
    whole = contents(host)
    uninstall(Tree(str(host)))
    for count in deaths(host, "install"):
        install(Tree(str(host)))
        assert contents(host) == whole, count
        uninstall(Tree(str(host)))


def test_an_upgrade_that_is_killed_anywhere_knows_old_and_new_for_its_own(host: Path) -> None:
    before = contents(host)
    for lives in range(40):
        install(Tree(str(host)), Layout(program="/old/netloom", network="old"))
        try:
            install(Mortal(str(host), lives), Layout(program="/new/netloom", network="new"))
        except Killed:
            assert Word.KEPT not in install(Tree(str(host)), Layout(program="/new/netloom", network="new"))
        uninstall(Tree(str(host)))
        assert contents(host) == before, lives


def test_a_removal_that_is_killed_anywhere_goes_on_where_it_was(host: Path) -> None:
    before = contents(host)
    install(Tree(str(host)))
    for _ in deaths(host, "uninstall"):
        uninstall(Tree(str(host)))
        install(Tree(str(host)))
    assert contents(host) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": {"../etc/passwd": []}}', '{"directories": ["/a/../b"]}', '{"x": 1}']
)
def test_a_record_that_cannot_be_trusted_is_refused(host: Path, text: str) -> None:
    (host / "var/lib/netloom").mkdir()
    (host / "var/lib/netloom/installed.json").write_text(text)
    with pytest.raises(ConfigError, match=r"^/var/lib/netloom/installed.json: the record of what was installed cannot be read"):
        records.read(Tree(str(host)))
