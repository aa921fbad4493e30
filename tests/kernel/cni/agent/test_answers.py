"""Points 1 to 36 of the CNI checklist: what is asked wrongly, and the versions, through both clients and a running agent."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from netloom.cni.results import VERSIONS
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, KUBERNETES, Runtime, environment, run

WIRINGS = ("routed", "bridge")


def row(point: int, sentence: str, *values: object) -> Any:
    return pytest.param(*values, id=f"{point:02}: {sentence}")


def asked(runtime: Runtime, sandbox: Sandbox, variables: dict[str, str | None], stdin: bytes) -> Any:
    complete = environment("ADD", runtime.run_dir, sandbox.container_id, sandbox.path) | variables
    return run(runtime.plugin, {name: value for name, value in complete.items() if value is not None}, stdin)


@pytest.mark.parametrize(
    ("variables", "config", "code", "named"),
    [
        row(2, "an unknown command", {"CNI_COMMAND": "REMOVE"}, {}, 4, "CNI_COMMAND"),
        row(8, "a version that nobody has", {}, {"cniVersion": "9.9.9"}, 1, "version"),
        row(9, "a field that is not served", {}, {"ipMasq": True}, 2, "ipMasq: true"),
        row(9, "a capability that is not served", {}, {"runtimeConfig": {"aliases": ["a"]}}, 2, "aliases"),
        row(80, "another plugin's addresses", {}, {"ipam": {"type": "host-local"}}, 2, "ipam.type: 'host-local'"),
        row(11, "all missing variables", {"CNI_CONTAINERID": None, "CNI_NETNS": None}, {}, 4, "CNI_CONTAINERID, CNI_NETNS"),
        row(14, "a network without a name", {}, {"name": ""}, 7, "name"),
        row(22, "a name that is a path", {}, {"name": "../x"}, 7, "name"),
        row(14, "a wiring that does not exist", {}, {"wiring": "warp"}, 7, "wiring"),
        row(17, "CHECK without a namespace", {"CNI_COMMAND": "CHECK", "CNI_NETNS": None}, {}, 4, "CNI_NETNS"),
        row(17, "DEL without an interface", {"CNI_COMMAND": "DEL", "CNI_IFNAME": None}, {}, 4, "CNI_IFNAME"),
        row(17, "GC without a path", {"CNI_COMMAND": "GC", "CNI_PATH": None}, {}, 4, "CNI_PATH"),
        row(19, "a container ID that climbs", {"CNI_CONTAINERID": "../x"}, {}, 4, "CNI_CONTAINERID"),
        row(19, "a container ID that is an option", {"CNI_CONTAINERID": "-x"}, {}, 4, "CNI_CONTAINERID"),
        *(
            row(20, f"interface {name!r}", {"CNI_IFNAME": name}, {}, 4, "CNI_IFNAME")
            for name in (".", "..", "a/b", "a:b", "a b", "x" * 16)
        ),
        row(23, "arguments that are no pairs", {"CNI_ARGS": "FOO"}, {}, 4, "CNI_ARGS"),
        row(23, "an unknown argument", {"CNI_ARGS": "FOO=BAR"}, {}, 4, "FOO"),
        row(31, "no version at all", {}, {"cniVersion": None}, 7, "cniVersion"),
        row(32, "a version that is none", {}, {"cniVersion": "abc"}, 1, "version"),
        row(34, "CHECK before it was there", {"CNI_COMMAND": "CHECK"}, {"cniVersion": "0.3.1"}, 1, "version"),
        row(35, "GC before it was there", {"CNI_COMMAND": "GC"}, {"cniVersion": "1.0.0"}, 1, "version"),
        row(35, "STATUS before it was there", {"CNI_COMMAND": "STATUS"}, {"cniVersion": "1.0.0"}, 1, "version"),
        row(50, "a namespace that is not there", {"CNI_NETNS": "/run/netns/gone"}, {}, 4, "CNI_NETNS"),
        row(50, "a file that is no namespace", {"CNI_NETNS": "/etc/passwd"}, {}, 4, "CNI_NETNS"),
        row(50, "a namespace of another kind", {"CNI_NETNS": "/proc/self/ns/mnt"}, {}, 4, "CNI_NETNS"),
        row(59, "CHECK without a result", {"CNI_COMMAND": "CHECK"}, {}, 7, "prevResult"),
    ],
)
def test_a_wrong_call_is_answered_with_its_code_and_what_is_wrong(
    either: Runtime, sandbox: Sandbox, variables: dict[str, str | None], config: dict[str, object], code: int, named: str
) -> None:
    """Points 4 to 7, 24: a document on stdout, with a version, and nothing on stderr."""
    answer = asked(either, sandbox, variables, json.dumps(CONFIG | config).encode())
    assert (answer.code, answer.document["code"], answer.stderr) == (1, code, b"")
    assert answer.document["cniVersion"] in VERSIONS
    assert named in answer.document["msg"] + answer.document.get("details", "")


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        row(13, "nothing", b"", 6),
        row(13, "half a document", b'{"cniVersion":"1.1.0","na', 6),
        row(13, "no JSON", b"netloom", 6),
        row(14, "a list", b"[]", 7),
        row(31, "a document without a version", b'{"name":"net"}', 1),
    ],
)
def test_stdin_that_is_no_configuration_is_refused(either: Runtime, sandbox: Sandbox, stdin: bytes, code: int) -> None:
    assert asked(either, sandbox, {}, stdin).error == code


def test_12_stdin_that_cannot_be_read_is_code_5(either: Runtime, sandbox: Sandbox) -> None:
    variables = environment("ADD", either.run_dir, sandbox.container_id, sandbox.path)
    with open(os.devnull, "wb") as unreadable:
        done = subprocess.run([either.plugin], stdin=unreadable, capture_output=True, env=variables, timeout=20, check=False)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)


def test_03_without_a_command_people_get_an_explanation(either: Runtime) -> None:
    answer = run(either.plugin, {}, b"")
    assert (answer.code, answer.stdout) == (0, b"")
    assert b"CNI_COMMAND" in answer.stderr


@pytest.mark.parametrize("stdin", [b"", b'{"cniVersion":"1.1.0"}'], ids=["18: with nothing", "27: with a version"])
def test_version_lists_what_is_served(either: Runtime, stdin: bytes) -> None:
    """Point 28."""
    answer = run(either.plugin, {"CNI_COMMAND": "VERSION"}, stdin)
    assert answer.ok and answer.document["supportedVersions"] == list(VERSIONS)


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_15_the_nodes_own_namespace_is_code_8(either: Runtime, machine: Machine, sandbox: Sandbox, command: str) -> None:
    own = f"/proc/{os.getpid()}/fd/{machine.netns}"
    assert either(command, sandbox, CONFIG, result={"cniVersion": "1.1.0"}, path=own).error == 8


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("version", VERSIONS)
def test_29_a_result_has_the_shape_of_the_version_that_was_asked_for(
    either: Runtime, sandbox: Sandbox, version: str, wiring: str
) -> None:
    """Points 30, 33, 36, 39, 41, 42."""
    config = CONFIG | {"cniVersion": version, "wiring": wiring}
    added = either("ADD", sandbox, config)
    assert added.ok, added
    document = added.document
    assert document["cniVersion"] == version
    host, inside = document["interfaces"]
    assert (host.get("sandbox"), inside["name"], inside["sandbox"]) == (None, "eth0", sandbox.path)
    assert [ip["interface"] for ip in document["ips"]] == [1, 1]
    assert [ip.get("version") for ip in document["ips"]] == (["4", "6"] if version < "1.0.0" else [None, None])
    assert ("mtu" in inside) == (version == "1.1.0")
    assert all(set(route) == {"dst", "gw"} for route in document["routes"])
    if version != "0.3.1":
        assert either("CHECK", sandbox, config, result=document).ok
    assert either("DEL", sandbox, config, result=None if version == "0.3.1" else document).ok


@pytest.mark.parametrize(
    ("extra", "args"),
    [
        row(25, "unknown keys", {"x-vendor": {"a": 1}, "type": "netloom"}, ""),
        row(26, "capabilities on stdin", {"capabilities": {"portMappings": True, "dns": True}}, ""),
        row(23, "Kubernetes' arguments", {}, KUBERNETES),
        row(23, "Kubernetes' arguments in another order", {}, ";".join(KUBERNETES.split(";")[::-1])),
        row(79, "containerd's dns", {"runtimeConfig": {"dns": {"Servers": None, "Searches": None, "Options": None}}}, ""),
        row(77, "a list of ports without any", {"runtimeConfig": {"portMappings": []}}, ""),
        row(77, "cgroupPath", {"runtimeConfig": {"cgroupPath": "/kubepods/x"}}, ""),
    ],
)
def test_what_runtimes_send_along_is_no_error(either: Runtime, sandbox: Sandbox, extra: dict[str, object], args: str) -> None:
    assert either("ADD", sandbox, CONFIG | extra, args=args).ok
    assert either("DEL", sandbox, CONFIG | extra, args=args).ok
