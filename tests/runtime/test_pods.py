"""Pods of real containers, made by containerd as kubelet asks for them, on a network of netloom alone."""

from __future__ import annotations

import ipaddress

import pytest

from tests.runtime.containerd import Containerd
from tests.runtime.cri import Container, Cri, Pod


def fetch(container: Container, address: str) -> str:
    """What the web server at that address gives."""
    request = f"printf 'GET /index HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80"
    return container.run("sh", "-c", request).splitlines()[-1]


def ping(address: str) -> tuple[str, ...]:
    return ("ping", "-6" if ":" in address else "-4", "-c", "1", "-W", "10", address)


def test_the_runtime_is_the_one_that_is_meant(runtime: Containerd) -> None:
    assert runtime.cri("Version").runtime_version.startswith({"1": "1.6.", "2": "2."}[runtime.version.name])


def test_a_pod_has_an_address_of_each_family_and_the_runtime_tells_it(cri: Cri) -> None:
    pod = cri.run(Pod("web"))
    container = pod.start("main")
    assert [ipaddress.ip_address(address).version for address in pod.addresses] == [4, 6]
    seen = container.run("ip", "address", "show", "dev", "eth0")
    assert all(f" {address}/" in seen for address in pod.addresses)
    assert [ip["IP"] for ip in pod.info["cniResult"]["Interfaces"]["eth0"]["IPConfigs"]] == pod.addresses
    pod.remove()


def test_the_containers_of_a_pod_share_one_stack(cri: Cri) -> None:
    pod = cri.run(Pod("web"))
    serving, asking = (
        pod.start("serving", "sh", "-c", "echo hello >/www/index && exec httpd -f -p 80 -h /www"),
        pod.start("asking"),
    )
    assert fetch(asking, "127.0.0.1") == fetch(asking, "::1") == "hello"
    assert serving.run("cat", "/sys/class/net/eth0/address") == asking.run("cat", "/sys/class/net/eth0/address")
    pod.remove()


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
def test_pods_reach_each_other_and_their_node_by_address(runtime: Containerd, wiring: str) -> None:
    runtime.write_network(runtime.version.conflist(wiring=wiring))
    runtime.restart()
    pods = [runtime.cri.run(Pod(name)) for name in ("one", "two")]
    containers = [
        pod.start("main", "sh", "-c", f"echo {pod.pod.name} >/www/index && exec httpd -f -p 80 -h /www") for pod in pods
    ]
    for asking, other in zip(containers, reversed(pods), strict=True):
        assert [fetch(asking, address) for address in other.addresses] == [other.pod.name] * 2
        for address in ("192.168.77.1", "fd00:77::1"):
            asking.run(*ping(address))
    for pod in pods:
        pod.remove()


def test_a_pod_leaves_by_its_node_with_the_nodes_address(runtime: Containerd) -> None:
    pod = runtime.cri.run(Pod("web"))
    pod.start("main").run(*ping("192.168.77.2"))
    pod.remove()
