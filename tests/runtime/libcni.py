"""What libcni does for a runtime that collects garbage, with the cache that the runtime's own libcni has written.

    collect(runtime, conflist, valid)

As in libcni/api.go, GCNetworkList: first DEL for each cached attachment of the network that is not valid, with the configuration,
result and arguments of its ADD; then GC for each plugin of the list.  containerd never calls it: kubelet's node has it from
others, so the tests do.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.cni_calls import Answer
from tests.runtime.containerd import CACHE, PLUGINS, Containerd

Attachment = tuple[str, str]
"""Container ID and interface."""


@dataclass(frozen=True)
class Cached:
    """One ADD as libcni remembers it: a file of kind cniCacheV1."""

    file: str
    entry: Mapping[str, Any]

    @property
    def attachment(self) -> Attachment:
        return self.entry["containerId"], self.entry["ifName"]

    @property
    def conflist(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(base64.b64decode(self.entry["config"]))
        return found


def cached(runtime: Containerd, network: str) -> Iterator[Cached]:
    for file in sorted(runtime.inside.path(CACHE).glob(f"{network}-*")):
        entry = json.loads(file.read_text())
        if entry["networkName"] == network:
            yield Cached(str(file), entry)


def collect(runtime: Containerd, conflist: Mapping[str, Any], valid: Collection[Attachment]) -> list[Answer]:
    """The answers of all plugins that were called."""
    answers = []
    for one in cached(runtime, conflist["name"]):
        if one.attachment not in valid:
            answers += delete(runtime, one)
            runtime.inside.run("rm", one.file.partition("/root")[2])
    listed = [{"containerID": container, "ifname": interface} for container, interface in sorted(valid)]
    names = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
    return answers + [_call(runtime, "GC", {**_whole(conflist, plugin), **names}) for plugin in conflist["plugins"]]


def delete(runtime: Containerd, one: Cached) -> list[Answer]:
    """The DEL of a cached attachment, of each plugin in reverse order."""
    variables = {
        "CNI_CONTAINERID": one.entry["containerId"],
        "CNI_IFNAME": one.entry["ifName"],
        "CNI_NETNS": one.entry.get("netns", ""),
        "CNI_ARGS": ";".join("=".join(pair) for pair in one.entry.get("cniArgs") or ()),
    }
    with_result = [{**_whole(one.conflist, p), "prevResult": one.entry["result"]} for p in reversed(one.conflist["plugins"])]
    return [_call(runtime, "DEL", config, **variables) for config in with_result]


def _whole(conflist: Mapping[str, Any], plugin: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's configuration as it gets it, by itself."""
    return {**plugin, "name": conflist["name"], "cniVersion": conflist["cniVersion"]}


def _call(runtime: Containerd, command: str, config: Mapping[str, Any], **variables: str) -> Answer:
    environment = {
        **runtime.environment,
        "CNI_COMMAND": command,
        "CNI_PATH": PLUGINS,
        **{k: v for k, v in variables.items() if v},
    }
    done = runtime.inside.attempt(f"{PLUGINS}/{config['type']}", environment=environment, stdin=json.dumps(config))
    return Answer(done.returncode, done.stdout.encode(), done.stderr.encode())
