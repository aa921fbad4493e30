"""The caller's side of CNI, as libcni does it: one plugin by environment and stdin, or a chain that hands on `prevResult`.

A call never raises: what the plugin did is a value (`Answer`), whatever it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netloom.cni
from netloom.cni.native import executable
from tests.agent_process import Sandbox

Document = dict[str, Any]  # Any: a JSON document of a plugin

NATIVE = str(executable())
PYTHON = str(Path(netloom.cni.__file__).parent / "client.py")
CLIENTS = {"native": NATIVE, "python": PYTHON}
OTHERS = "/usr/lib/cni"
"""Debian's containernetworking-plugins."""

CONFIG: Document = {"cniVersion": "1.1.0", "name": "net", "type": "netloom"}
KUBERNETES = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=u-1"


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    stdout: bytes
    stderr: bytes = b""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def document(self) -> Document:
        """What was printed; {} for nothing."""
        found: Document = json.loads(self.stdout or b"{}")
        return found

    @property
    def error(self) -> int:
        """The specification's code; 0 where there was no error."""
        return 0 if self.ok else int(self.document["code"])

    @property
    def addresses(self) -> list[str]:
        return [ip["address"] for ip in self.document.get("ips", ())]


def environment(
    command: str | None, run_dir: str, container_id: str = "", path: str = "", ifname: str = "eth0", args: str = ""
) -> dict[str, str]:
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": path,
        "CNI_IFNAME": ifname,
        "CNI_ARGS": args,
        "CNI_PATH": OTHERS,
        "NETLOOM_RUN_DIR": run_dir,
        "PATH": os.defpath + ":/usr/sbin:/sbin",
    }
    return {name: value for name, value in variables.items() if value}


def run(plugin: str, variables: Mapping[str, str], stdin: bytes, timeout: float = 90) -> Answer:
    done = subprocess.run([plugin], input=stdin, capture_output=True, env=dict(variables), timeout=timeout, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def call(
    plugin: str,
    command: str,
    run_dir: str,
    container_id: str,
    path: str = "",
    config: Mapping[str, Any] = CONFIG,
    *,
    ifname: str = "eth0",
    args: str = "",
) -> Answer:
    variables = environment(command, run_dir, container_id, path, ifname, args)
    return run(plugin, variables, json.dumps(config).encode())


def start(plugin: str, variables: Mapping[str, str], stdin: bytes) -> subprocess.Popen[bytes]:
    """A call that goes on by itself; its output is in pipes."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([plugin], stdin=pipe, stdout=pipe, stderr=pipe, env=dict(variables))
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    return process


@dataclass(slots=True)
class Chain:
    """A conflist for one container: ADD in order, DEL in reverse order with the last result, CHECK in order with it
    (libcni/api.go, AddNetworkList and its sisters).  `plugins`: executable and its own configuration."""

    run_dir: str
    plugins: Sequence[tuple[str, Mapping[str, Any]]]
    container_id: str
    path: str
    version: str = "1.0.0"
    runtime_config: Mapping[str, Any] = field(default_factory=dict)
    result: Document | None = None

    def add(self) -> Answer:
        answer = Answer(0, b"")
        result: Document | None = None
        for plugin, config in self.plugins:
            answer = self._call("ADD", plugin, config, result)
            if not answer.ok:
                return answer
            result = answer.document
        self.result = result
        return answer

    def check(self) -> Answer:
        return self._each("CHECK", self.plugins, self.result)

    def delete(self) -> Answer:
        return self._each("DEL", self.plugins[::-1], self.result)

    def delete_without_result(self) -> Answer:
        """As containerd does it once more."""
        return self._each("DEL", self.plugins[::-1], None)

    def _each(self, command: str, plugins: Sequence[tuple[str, Mapping[str, Any]]], result: Document | None) -> Answer:
        answer = Answer(0, b"")
        for plugin, config in plugins:
            answer = self._call(command, plugin, config, result)
            if not answer.ok:
                return answer
        return answer

    def _call(self, command: str, plugin: str, config: Mapping[str, Any], result: Document | None) -> Answer:
        whole: Document = {"cniVersion": self.version, "name": "net", **config}
        wanted = {k: v for k, v in self.runtime_config.items() if config.get("capabilities", {}).get(k)}
        if wanted:
            whole["runtimeConfig"] = wanted
        if result is not None:
            whole["prevResult"] = result
        whole.pop("capabilities", None)
        return call(plugin, command, self.run_dir, self.container_id, self.path, whole)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One client of one agent, called for sandboxes."""

    run_dir: str
    plugin: str

    def __call__(
        self,
        command: str,
        sandbox: Sandbox,
        config: Mapping[str, Any] = CONFIG,
        *,
        result: Document | None = None,
        ifname: str = "eth0",
        args: str = "",
        path: str | None = None,
    ) -> Answer:
        """`result` becomes `prevResult`; `path` stands for the sandbox's own."""
        whole = {**config, "prevResult": result} if result else config
        path = sandbox.path if path is None else path
        return call(self.plugin, command, self.run_dir, sandbox.container_id, path, whole, ifname=ifname, args=args)

    def begin(self, command: str, sandbox: Sandbox, config: Mapping[str, Any] = CONFIG) -> subprocess.Popen[bytes]:
        """The same, without waiting; `finish` gives the answer."""
        variables = environment(command, self.run_dir, sandbox.container_id, sandbox.path)
        return start(self.plugin, variables, json.dumps(config).encode())


def finish(process: subprocess.Popen[bytes], timeout: float = 70) -> Answer:
    output, error = process.communicate(timeout=timeout)
    return Answer(process.returncode, output, error)
