from __future__ import annotations

import sys

import pytest

from netloom.datastore import check_target
from netloom.datastore.etcd.target import Server, Target, parse
from netloom.errors import ConfigError


def test_servers_are_read_with_their_ports() -> None:
    assert parse("https://a:2379, https://10.0.0.1,https://[fd00::1]:1").servers == (
        Server("a", 2379, tls=True),
        Server("10.0.0.1", 2379, tls=True),
        Server("fd00::1", 1, tls=True),
    )
    assert [server.place for server in parse("http://a,http://[fd00::1]/").servers] == ["a:2379", "[fd00::1]:2379"]


def test_options_are_read_as_they_are_written() -> None:
    text = "https://a?prefix=/x%20y/z&caFile=/ca&certFile=/cert&keyFile=/key&user=u%26v&passwordFile=/p"
    with pytest.raises(ConfigError, match="is no prefix"):
        parse(text)
    assert parse(text.replace("%20", "-")) == Target(
        (Server("a", 2379, tls=True),), "/x-y/z", "/ca", "/cert", "/key", "u&v", "/p"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "datastore: '' is no server"),
        ("a:2379", "datastore: 'a:2379' is no server"),
        ("ftp://a", "datastore: 'ftp://a' is no server"),
        ("https://", "datastore: 'https://' is no server"),
        ("https://a:0", "datastore: 'https://a:0' is no server"),
        ("https://a:x", "datastore: 'https://a:x' is no server"),
        ("https://a/b", "datastore: 'https://a/b' is no server"),
        ("https://me@a", "datastore: 'https://me@a' is no server"),
        ("https://[::g]", "datastore: 'https://[::g]' is no server"),
        ("https://a_b", "datastore: 'https://a_b' is no server"),
        ("https://a,http://b", "datastore: 'https://a,http://b': some are https and some http"),
        ("https://a?cafile=/x", "datastore: there is no option 'cafile'; there are prefix, caFile, certFile, keyFile, user, passwordFile"),
        ("https://a?prefix=netloom", "etcdPrefix: 'netloom' is no prefix"),
        ("https://a?prefix=/netloom/", "etcdPrefix: '/netloom/' is no prefix"),
        ("https://a?caFile=ca.pem", "etcdCaFile: 'ca.pem' is not an absolute path"),
        ("http://a?caFile=/ca.pem", "etcdCaFile: is of no use without TLS"),
        ("https://a?certFile=/a.pem", "etcdCertFile, etcdKeyFile: a certificate and its key go together"),
        ("https://a?user=root", "etcdUser, etcdPasswordFile: a user and a password go together"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as e:
        check_target(f"etcd:{text}")
    assert str(e.value) == message
    assert e.value.hint


def test_without_grpcio_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match="etcd needs grpcio, which is not installed here") as e:
        check_target("etcd:https://a")
    assert e.value.hint == "pip install 'netloom[etcd]'"
