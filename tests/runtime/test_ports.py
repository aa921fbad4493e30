"""Published ports, as the CRI asks for them: netloom does them, with no other plugin in the list."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import grpc
import pytest

from netloom.dataplane import netns
from tests.agent_process import ADDRESSES
from tests.runtime.containerd import Containerd
from tests.runtime.cri import Cri, Pod, Sandbox
from tests.runtime.reaching import eventually, namespace_of, problem

NODE = [str(address.ip) for address in ADDRESSES]
SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")
WEB = Pod("web", ports=((8080, 80, "tcp"),))


@pytest.fixture(params=["routed", "bridge"])
def publishing(runtime: Containerd, request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """With a network that has the capability; without it the runtime does not tell of ports."""
    wiring = runtime.version.conflist(wiring=request.param, capabilities={"portMappings": True})
    runtime.write_network(wiring)
    runtime.restart()  # it notices a new file in its own time
    yield runtime
    runtime.write_network(runtime.version.conflist())
    runtime.restart()


def serve(cri: Cri, pod: Pod) -> Sandbox:
    sandbox = cri.run(pod)
    sandbox.start("serving", *SERVING)
    return sandbox


def everywhere(runtime: Containerd, *pods: Sandbox) -> list[int]:
    """Descriptors of the namespaces that a published port is reached from: outside, the node itself, pods."""
    machine = runtime.inside.machine
    return [
        os.dup(machine.outside),
        os.dup(machine.netns),
        *(netns.open_netns(str(namespace_of(runtime, pod))) for pod in pods),
    ]


def test_a_port_is_reached_from_outside_the_node_another_pod_and_the_pod_itself(publishing: Containerd) -> None:
    web, other = serve(publishing.cri, WEB), publishing.cri.run(Pod("other"))
    for namespace in everywhere(publishing, other, web):
        eventually(namespace, NODE, 8080)
        os.close(namespace)
    eventually(publishing.inside.machine.netns, ["127.0.0.1"], 8080)
    web.remove()
    other.remove()
    assert all(problem(publishing.inside.machine.outside, address, 8080) for address in NODE)


@pytest.mark.parametrize("killed", [("containerd",), ("agent",), ("containerd", "agent")], ids="-".join)
def test_a_port_stays_while_both_are_killed_and_started(publishing: Containerd, killed: tuple[str, ...]) -> None:
    machine = publishing.inside.machine
    web = serve(publishing.cri, WEB)
    eventually(machine.outside, NODE, 8080)
    if "containerd" in killed:
        publishing.end(signal.SIGKILL)
    if "agent" in killed:
        machine.end(signal.SIGKILL)
    assert [problem(machine.outside, address, 8080) for address in NODE] == ["", ""]
    if "agent" in killed:
        machine.start()
    if "containerd" in killed:
        publishing.start()
    assert [problem(machine.outside, address, 8080) for address in NODE] == ["", ""]
    publishing.cri.remove(web.id)
    assert all(problem(machine.outside, address, 8080) for address in NODE)


def test_a_port_that_is_taken_is_refused_with_its_holder_and_leaves_nothing(publishing: Containerd) -> None:
    web = serve(publishing.cri, WEB)
    with pytest.raises(grpc.RpcError, match=r"8080.*shop/web"):
        publishing.cri.run(Pod("second", ports=((8080, 80, "tcp"),)))
    assert publishing.cri.sandboxes() == [web.id]
    eventually(publishing.inside.machine.outside, NODE, 8080)
    web.remove()
    again = serve(publishing.cri, Pod("second", ports=((8080, 80, "tcp"),), attempt=1))
    eventually(publishing.inside.machine.outside, NODE, 8080)
    again.remove()
