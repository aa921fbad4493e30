"""Who may come to an etcd, and what is said where somebody may not: certificates, users, permissions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from netloom.datastore import Datastore, connect
from netloom.datastore.etcd.store import EtcdDatastore
from netloom.errors import Unavailable
from netloom.lab.certificates import Authority
from tests import etcd
from tests.pure.datastore.contract import SOON, drain, names
from tests.pure.datastore.places import node
from tests.waiting import eventually


@pytest.fixture(scope="module")
def secured() -> Iterator[etcd.Etcd]:
    """It takes TLS alone, and wants certificates."""
    with etcd.inside(), etcd.etcd(tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[etcd.Etcd]:
    """It knows users, and forgets them after a second.  `node` has a prefix of its own, `reader` reads it, `poor` may nothing, `blind`
    sees what proves that a store is there."""
    options = ["--auth-token-ttl=1"]
    with etcd.inside(), etcd.etcd(options=options) as running:
        for user, may in (("node", "readwrite"), ("reader", "read"), ("poor", ""), ("blind", "")):
            running.ctl("user", "add", f"{user}:password of {user}")
            running.ctl("role", "add", user)
            if may:
                running.ctl("role", "grant-permission", user, "--prefix=true", may, "/netloom/")
            running.ctl("user", "grant-role", user, user)
        running.ctl("role", "grant-permission", "blind", "read", "/netloom/identity")
        running.ctl("user", "add", "root:root")
        running.ctl("user", "grant-role", "root", "root")
        running.ctl("auth", "enable")
        running.credentials.append("--user=root:root")
        with closing(as_user(running, "node")) as store:
            assert store.list().items == ()
        yield running


def by_certificate(server: etcd.Etcd, name: str = "node-0", *, authority: Authority | None = None, days: int = 30) -> str:
    own = (authority or Authority(f"{server.folder}/tls")).issue(name, days=days)
    assert server.authority
    return f"etcd:{server.urls}?caFile={server.authority.file}&certFile={own.certificate}&keyFile={own.key}"


def as_user(server: etcd.Etcd, name: str, password: str = "") -> Datastore:
    path = Path(server.folder, f"password-{name}{len(password)}")
    path.write_text((password or f"password of {name}") + "\n")
    return connect(f"etcd:{server.urls}?user={name}&passwordFile={path}")


def refusal(target: str) -> Unavailable:
    with pytest.raises(Unavailable) as e:
        connect(target)
    assert e.value.hint
    return e.value


def test_both_sides_show_certificates(secured: etcd.Etcd) -> None:
    with closing(connect(by_certificate(secured))) as store:
        watch = store.watch(store.list().revision)
        assert names(drain(watch, store.create(node("a")))) == ["+a"]


def test_a_server_of_another_authority_is_refused(secured: etcd.Etcd) -> None:
    other = Authority(f"{secured.folder}/other").file
    target = re.sub(r"caFile=[^&]*", f"caFile={other}", by_certificate(secured))
    error = refusal(target)
    assert f"the certificate of {secured.urls} is not from the authority in {other}" in str(error)
    assert "etcdCaFile" in str(error.hint)


def test_a_certificate_of_another_authority_is_refused_there(secured: etcd.Etcd) -> None:
    target = by_certificate(secured, "stranger", authority=Authority(f"{secured.folder}/other"))
    assert f"{secured.urls} refuses our certificate {secured.folder}/other/stranger.pem" in str(refusal(target))


def test_an_own_certificate_that_has_expired_is_named(secured: etcd.Etcd) -> None:
    assert f"our certificate {secured.folder}/tls/old.pem has expired" in str(refusal(by_certificate(secured, "old", days=0)))


def test_a_servers_certificate_that_has_expired_is_named() -> None:
    with etcd.inside(), etcd.etcd(tls=True, ask=False) as server:
        assert server.authority
        target = f"etcd:{server.urls}?caFile={server.authority.file}"
        connect(target).close()
        server.member().kill()
        server.authority.issue("server", addresses=[server.urls[8:-5]], days=0)
        server.member().start()
        assert f"the certificate of {server.urls} has expired" in str(refusal(target))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ((r"&certFile.*", ""), "wants a certificate of ours"),
        ((r"caFile=[^&]*&", ""), "is not from an authority that this machine trusts"),
        ((r"https:", "http:"), "it may speak TLS alone"),
        ((r"caFile=[^&]*", "caFile=/etc/passwd"), "etcdCaFile: /etc/passwd holds no certificate"),
        ((r"keyFile=[^&]*", "keyFile=/nowhere/key"), "etcdKeyFile: /nowhere/key cannot be read: No such file or directory"),
        ((r"keyFile=[^&]*", "keyFile=/etc/passwd"), "are no certificate and its key"),
        ((r":2379", ":2378"), ":2378 cannot be reached: Connection refused"),
    ],
)
def test_what_stands_between_is_said(changed: tuple[str, str], message: str, secured: etcd.Etcd) -> None:
    target = by_certificate(secured)
    if changed[1] == "http:":
        target = re.sub(r"\?.*", "", target)
    assert message in str(refusal(re.sub(*changed, target)))


def test_a_server_without_tls_is_named(guarded: etcd.Etcd) -> None:
    assert "speaks no TLS" in str(refusal(f"etcd:{guarded.urls.replace('http', 'https')}"))


def test_the_common_name_of_a_certificate_is_the_user(secured: etcd.Etcd) -> None:
    secured.ctl("user", "add", "node-7", "--no-password")
    secured.ctl("role", "add", "node-7")
    secured.ctl("role", "grant-permission", "node-7", "--prefix=true", "readwrite", "/seven/")
    secured.ctl("user", "grant-role", "node-7", "node-7")
    secured.ctl("user", "add", "root:root")
    secured.ctl("user", "grant-role", "root", "root")
    secured.ctl("auth", "enable")
    try:
        with closing(connect(by_certificate(secured, "node-7") + "&prefix=/seven")) as store:
            watch = store.watch(store.list().revision)
            assert names(drain(watch, store.create(node("a")))) == ["+a"]
        error = refusal(by_certificate(secured, "node-7") + "&prefix=/eight")
        assert "does not permit the certificate's user to use /eight/" in str(error)
    finally:
        secured.ctl("auth", "disable")


def test_user_and_password(guarded: etcd.Etcd) -> None:
    with closing(as_user(guarded, "node")) as store:
        store.create(node("a"))
    with pytest.raises(Unavailable, match="wrong user or password") as e:
        as_user(guarded, "node", "guessed")
    assert "see " in str(e.value.hint)
    assert "wants to know who we are" in str(refusal(f"etcd:{guarded.urls}"))


def test_a_token_that_ran_out_is_renewed(guarded: etcd.Etcd) -> None:
    """That it ran out etcd's log tells."""
    with closing(as_user(guarded, "node")) as store:
        watch = store.watch(store.list().revision)
        assert isinstance(store, EtcdDatastore)
        token = str(store._connection.line()._token)
        eventually(lambda: f'deleted a simple token","user-name":"node","token":"{token}' in guarded.member().log())
        last = store.create(node("renewed"))
        assert names(drain(watch, last)) == ["+renewed"]
        assert names(drain(store.watch(last - 1), last)) == ["+renewed"]


def test_who_may_nothing_is_told_what_to_grant(guarded: etcd.Etcd) -> None:
    with pytest.raises(Unavailable, match="does not permit user poor to use /netloom/") as e:
        as_user(guarded, "poor")
    assert e.value.hint == "etcdctl role grant-permission ROLE --prefix=true readwrite /netloom/"


def test_who_may_only_read_reads(guarded: etcd.Etcd) -> None:
    with closing(as_user(guarded, "reader")) as store:
        watch = store.watch(store.list().revision)
        with pytest.raises(Unavailable, match="does not permit user reader"):
            store.create(node("forbidden"))
        with closing(as_user(guarded, "node")) as other:
            assert names(drain(watch, other.create(node("allowed")))) == ["+allowed"]


def test_a_watch_that_is_denied_says_so(guarded: etcd.Etcd) -> None:
    with closing(as_user(guarded, "blind")) as store:
        watch = store.watch(0)
        with pytest.raises(Unavailable, match="does not permit user blind"):
            watch.next(SOON)
        with pytest.raises(Unavailable, match="does not permit user blind"):
            store.list()
