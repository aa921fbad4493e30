"""The same texts, questions and answers with BIRDs of a newer Debian: 2.20 and 3.4 when this was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netloom.bgp.status import daemon, routes
from netloom.lab import packages
from tests.bgp_configs import CONFIGS, RENDERED
from tests.bird_pair import Node, pair
from tests.kernel.bgp.test_parsed import parsed
from tests.waiting import eventually

LIBRARIES = (
    *("libc6", "libssh-4", "libgcrypt20", "libgpg-error0", "zlib1g", "libssl3t64", "libtinfo6"),
    *("libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libcom-err2", "libkrb5support0", "libkeyutils1"),
)


def newer(package: str, folder: Path) -> packages.Program:
    """With the C library that it was built for."""
    root = packages.unpacked(package, *LIBRARIES, suite="forky")
    (loader,) = (path for path in root.glob("usr/lib*/**/ld-linux-*.so.*") if path.is_file() and not path.is_symlink())
    libraries = packages.environment(root)["LD_LIBRARY_PATH"]
    folder.mkdir()
    path = folder / "bird"
    path.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {root}/usr/sbin/bird "$@"\n')
    path.chmod(0o755)
    return packages.Program(str(path), {})


@pytest.mark.long
@pytest.mark.parametrize(("package", "version"), [("bird2", "2."), ("bird3", "3.")])
def test_a_newer_bird(package: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = newer(package, tmp_path / "program")
    for name in CONFIGS:
        assert parsed(program, RENDERED / f"{name}.conf") == ""
    monkeypatch.setenv("PATH", f"{Path(program.path).parent}{os.pathsep}{os.environ['PATH']}")
    with pair(tmp_path) as (a, b):
        for node, other in ((a, b), (b, a)):
            node.write(node.config(node.session(other)))
            node.start()
        eventually(lambda: a.established(b))
        assert daemon(a.bird.control.ask("show status")).version.startswith(version)
        assert a.apply(a.config(a.session(b), draining=True))
        eventually(lambda: "10.244.2.0/26 via 192.0.2.2 dev up0 proto bird metric 700" in a.ip("route"))
        eventually(lambda: told(b).get("10.244.1.0/26") == ("65535:0",))
        a.apply(None)
        eventually(lambda: "proto bird" not in a.ip("route") + a.ip("-6", "route"))


def told(node: Node) -> dict[str, tuple[str, ...]]:
    found, _ = routes(node.bird.control.ask("show route all"), 100)
    return {route.destination: route.communities for route in found if route.protocol.startswith("mesh_")}
