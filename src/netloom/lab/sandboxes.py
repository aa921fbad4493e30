"""Pods' interfaces, made and removed as a container runtime does it: by calling the CNI plugin (SPEC 1.1.0).

The plugin is a program of its own: parameters go in by the environment, the network configuration by standard input, the
result or an error document comes back on standard output.  It is called in the node's namespace, with the pod's as CNI_NETNS.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import msgspec

import netloom.cni
from netloom.dataplane import netns
from netloom.errors import CniError, NetloomError
from netloom.lab.processes import marked
from netloom.lab.record import folder, namespace_path
from netloom.lab.topology import Pod
from netloom.model.addresses import Interface
from netloom.model.attachments import Wiring
from netloom.model.resources import dec_hook

INTERFACE = "eth0"
_TRY_AGAIN = 11  # SPEC 1.1.0, "Error": the runtime should repeat the call later
_ATTACHED = 100  # the agent's own: that container has that interface already
_PATIENCE = 15.0
_CALL_TIMEOUT = 90.0


class _Address(msgspec.Struct, frozen=True):
    address: Interface


class _Result(msgspec.Struct, frozen=True):
    ips: tuple[_Address, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    code: int
    msg: str
    details: str = ""


def plugin() -> list[str]:
    """The native client where it was built for this machine, else the Python one."""
    here = Path(netloom.cni.__file__).parent
    native = here / "native" / platform.machine() / "netloom-cni"
    return [str(native)] if native.exists() else [sys.executable, "-ISB", str(here / "client.py")]


def configuration(pod: Pod, wiring: Wiring) -> dict[str, object]:
    """What a runtime hands over of the node's conflist, for one pod."""
    labels = [{"key": key, "value": value} for key, value in pod.labels.items()]
    return {
        "cniVersion": "1.1.0",
        "name": "lab",
        "type": "netloom",
        "wiring": wiring.value,
        "args": {"cni": {"labels": labels}},
    }


def add(lab: str, pod: Pod, container_id: str, wiring: Wiring) -> tuple[Interface, ...]:
    """ADD; the pod's addresses.  Raises CniError with the plugin's code; "try again later" is tried again for a while.

    An agent that was only slow carries out what was given up: then DEL comes before the next try, as runtimes have it."""
    deadline = time.monotonic() + _PATIENCE
    given_up = False
    while True:
        try:
            output = _call("ADD", lab, pod, container_id, wiring)
            return tuple(ip.address for ip in _decode(output, _RESULT).ips)
        except CniError as e:
            late = given_up and e.code == _ATTACHED
            if not (late or e.code == _TRY_AGAIN) or time.monotonic() > deadline:
                raise
        if late:
            delete(lab, pod, container_id, wiring)
        given_up = True
        time.sleep(0.2)


def delete(lab: str, pod: Pod, container_id: str, wiring: Wiring) -> None:
    """DEL."""
    _call("DEL", lab, pod, container_id, wiring)


def _call(command: str, lab: str, pod: Pod, container_id: str, wiring: Wiring) -> bytes:
    node = netns.open_netns(namespace_path(lab, pod.node))
    try:
        with netns.entered(node):
            done = subprocess.run(
                plugin(),
                input=json.dumps(configuration(pod, wiring)).encode(),
                capture_output=True,
                env=_parameters(command, lab, pod, container_id),
                timeout=_CALL_TIMEOUT,
                check=False,
            )
    except subprocess.TimeoutExpired as e:
        raise NetloomError(f"{command} of {pod.name}: no answer from the plugin within {_CALL_TIMEOUT:.0f} s") from e
    finally:
        os.close(node)
    if done.returncode != 0:
        error = _decode(done.stdout, _ERROR)
        raise CniError(error.code, f"{command} of {pod.name} on {pod.node}: {error.msg}", error.details)
    return done.stdout


def _parameters(command: str, lab: str, pod: Pod, container_id: str) -> dict[str, str]:
    return marked(lab, "cni", pod.name, base={}) | {
        "PATH": os.environ.get("PATH", os.defpath),
        "NETLOOM_RUN_DIR": folder(lab, pod.node, "run"),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": namespace_path(lab, pod.name),
        "CNI_IFNAME": INTERFACE,
        "CNI_PATH": os.path.dirname(plugin()[-1]),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
    }


_Document = TypeVar("_Document", _Result, _Error)
_RESULT = msgspec.json.Decoder(_Result, dec_hook=dec_hook)
_ERROR = msgspec.json.Decoder(_Error, dec_hook=dec_hook)
"""Made here: msgspec looks at a type when it first meets it, and two threads that do so at once crash it."""


def _decode(output: bytes, decoder: msgspec.json.Decoder[_Document]) -> _Document:
    try:
        return decoder.decode(output)
    except msgspec.MsgspecError as e:
        raise NetloomError(f"the CNI plugin's answer cannot be read: {e}: {output[:200]!r}") from e
