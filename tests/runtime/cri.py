"""The Container Runtime Interface as kubelet speaks it: gRPC on containerd's socket, messages by Kubernetes' own definition.

    cri = Cri(socket)
    cri("RunPodSandbox", config={"metadata": {...}})       any method of the service, with its request's fields

The definition comes out of Debian's package of it and is compiled when first asked for: nothing of it is written down here.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from tests import daemons
from tests.runtime.image import NAME

SUITE = "forky"
_DEFINITION = "usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1"
_SERVICE = "runtime.v1.RuntimeService"
_STUMBLES = 60.0  # seconds

Message = Any  # a protobuf message: its class is made at run time


class Cri:
    def __init__(self, socket: str, timeout: float = 60) -> None:
        self._channel, self._timeout = grpc.insecure_channel(f"unix://{socket}"), timeout

    def __call__(self, method: str, *, timeout: float | None = None, **fields: object) -> Message:
        """Raises grpc.RpcError."""
        described = _service().methods_by_name[method]
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        answer = message_factory.GetMessageClass(described.output_type)
        call = self._channel.unary_unary(f"/{_SERVICE}/{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=timeout or self._timeout)

    def close(self) -> None:
        self._channel.close()

    def conditions(self) -> dict[str, tuple[bool, str]]:
        """What the runtime says of itself: `NetworkReady` and others, with the reason."""
        return {c.type: (c.status, c.message) for c in self("Status").status.conditions}

    def run(self, pod: Pod) -> Sandbox:
        """As kubelet, which tries again.  Here that is done for one fault of containerd's own only: killed while it made a snapshot, it
        stumbles over the folder of that until its garbage collector has been there."""
        deadline = time.monotonic() + _STUMBLES
        while True:
            try:
                return Sandbox(self, pod, self("RunPodSandbox", config=pod.config()).pod_sandbox_id)
            except grpc.RpcError as e:
                if "failed to rename" not in str(e) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
            pod = replace(pod, attempt=pod.attempt + 1)

    def sandboxes(self) -> list[str]:
        return [item.id for item in self("ListPodSandbox").items]

    def remove(self, sandbox_id: str) -> None:
        self("StopPodSandbox", pod_sandbox_id=sandbox_id)
        self("RemovePodSandbox", pod_sandbox_id=sandbox_id)


@dataclass(frozen=True)
class Pod:
    """As kubelet describes one to the runtime.  `ports`: (host port, container port, protocol)."""

    name: str
    ports: tuple[tuple[int, int, str], ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    attempt: int = 0

    def config(self) -> dict[str, object]:
        protocols = {"tcp": 0, "udp": 1, "sctp": 2}
        return {
            "metadata": {"name": self.name, "namespace": "shop", "uid": f"uid-of-{self.name}", "attempt": self.attempt},
            "hostname": self.name,
            "annotations": self.annotations,
            "port_mappings": [
                {"host_port": outer, "container_port": inner, "protocol": protocols[p]} for outer, inner, p in self.ports
            ],
            "linux": {},
        }


@dataclass(frozen=True)
class Sandbox:
    """A pod that runs."""

    cri: Cri
    pod: Pod
    id: str

    @property
    def addresses(self) -> list[str]:
        """As the runtime tells kubelet."""
        network = self.cri("PodSandboxStatus", pod_sandbox_id=self.id).status.network
        return [network.ip, *(more.ip for more in network.additional_ips)] if network.ip else []

    @property
    def ready(self) -> bool:
        return bool(self.cri("PodSandboxStatus", pod_sandbox_id=self.id).status.state == 0)

    @property
    def info(self) -> dict[str, Any]:
        """What the runtime keeps of it: `cniResult`, `runtimeSpec` and more."""
        found: dict[str, Any] = json.loads(self.cri("PodSandboxStatus", pod_sandbox_id=self.id, verbose=True).info["info"])
        return found

    def start(self, name: str, *command: str) -> Container:
        """One more container in this sandbox."""
        config = {"metadata": {"name": name}, "image": {"image": NAME}, "command": command}
        created = self.cri("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.pod.config())
        self.cri("StartContainer", container_id=created.container_id)
        return Container(self.cri, created.container_id)

    def remove(self) -> None:
        self.cri.remove(self.id)


@dataclass(frozen=True)
class Container:
    cri: Cri
    id: str

    def run(self, *command: str, timeout: int = 60) -> str:
        """What the command prints; AssertionError with all of it where it fails."""
        done = self.cri("ExecSync", container_id=self.id, cmd=command, timeout=timeout)
        assert done.exit_code == 0, (command, done.stdout, done.stderr)
        return str(done.stdout, "utf-8")


@cache
def _service() -> Any:  # a descriptor: see Message
    source = daemons.unpacked("golang-k8s-cri-api-dev", suite=SUITE) / _DEFINITION
    with tempfile.NamedTemporaryFile() as compiled:
        code = protoc.main(["protoc", f"-I{source}", f"--descriptor_set_out={compiled.name}", "--include_imports", "api.proto"])
        assert code == 0, f"protoc cannot compile {source}/api.proto"
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(compiled.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool.FindServiceByName(_SERVICE)
