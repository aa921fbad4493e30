"""A small cluster, as the datastore and one agent tell of it."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from netloom import __version__
from netloom.agent.state import (
    AgentState,
    AttachmentState,
    BlockState,
    DatastoreState,
    KernelRoute,
    KernelRoutes,
    PassState,
    RouteFor,
    RouteState,
)
from netloom.model.addresses import Mac
from netloom.model.attachments import State
from netloom.model.resources import AnyResource, convert

Plain = dict[str, object]


def resource(kind: str, name: str, spec: Plain | None = None, **metadata: object) -> AnyResource:
    value: Plain = {"apiVersion": "netloom.io/v1", "kind": kind, "metadata": {"name": name, **metadata}}
    return convert(value if spec is None else {**value, "spec": spec})


def node(name: str, address: str, **metadata: object) -> AnyResource:
    return resource("Node", name, {"id": f"id-{name}", "addresses": [address], "mtu": 1500}, **metadata)


def pool(name: str, cidr: str, **spec: object) -> AnyResource:
    return resource("IPPool", name, {"cidr": cidr, **spec})


def block(cidr: str, node: str | None) -> AnyResource:
    claims = [] if node is None else [{"cidr": cidr, "node": node, "nodeId": f"id-{node}"}]
    return resource("IPBlock", cidr.replace(".", "-").replace("/", "-"), {"cidr": cidr, "claims": claims})


def endpoint(pod: str, namespace: str, node: str, address: str, **labels: str) -> AnyResource:
    number = int(ip_address(address)) & 0xFF
    spec: Plain = {
        "node": node,
        "network": "netloom",
        "containerID": f"sandbox{number}",
        "interface": "eth0",
        "hostInterface": f"loom{number:011x}",
        "pod": pod,
        "addresses": [address],
        "mac": f"0a:58:0a:f4:00:{number:02x}",
        "netns": f"4:{number}",
        **({"ports": [{"protocol": "tcp", "hostPort": 8080, "containerPort": 80}]} if pod == "web-0" else {}),
        **({"bandwidth": {"ingressRate": 10_000_000, "egressRate": 1500}} if pod == "web-0" else {}),
    }
    return resource("Endpoint", f"loom{number:011x}", spec, namespace=namespace, labels=labels)


CLUSTER: tuple[AnyResource, ...] = (
    node("a", "192.168.0.1/24", labels={"rack": "1"}),
    node("b", "192.168.0.2/24"),
    pool("default", "10.244.0.0/16", encapsulation="VXLAN", natOutgoing=True),
    block("10.244.0.0/26", "a"),
    block("10.244.0.64/26", "b"),
    resource("Namespace", "shop", labels={"team": "web"}),
    resource("IPReservation", "printers", {"reservedCIDRs": ["10.244.0.8/30"]}),
    endpoint("web-0", "shop", "a", "10.244.0.2", app="web"),
    endpoint("db-0", "shop", "b", "10.244.0.66", app="db"),
    endpoint("tool", "default", "a", "10.244.0.3"),
)

_NOW = datetime.now(UTC)

STATE = AgentState(
    node="a",
    version=__version__,
    pid=1,
    started=_NOW,
    ready=True,
    in_sync_since=_NOW,
    mtu=1450,
    datastore=DatastoreState(target="sqlite:x", connected=True, revision=10),
    last_pass=PassState(number=7, revision=10, at=_NOW, milliseconds=3.14, tables={"routes": "+2-1", "links": "same"}),
    blocks=(BlockState(cidr=ip_network("10.244.0.0/26"), pool="default", used=2, kept=3, cooling=1, free=58),),
    routes=(
        RouteState(
            destination=ip_network("10.244.0.2/32"),
            kind=RouteFor.POD,
            device="loom00000000002",
            owner="shop/web-0",
            pool="default",
            why="a pod of this node",
        ),
        RouteState(
            destination=ip_network("10.244.0.64/26"),
            kind=RouteFor.NODE,
            via=ip_address("10.244.0.64"),
            device="loom.vxlan",
            metric=70000,
            protocol=79,
            owner="b",
            pool="default",
            encapsulation="VXLAN:4096:4789",
            why="VXLAN, by pool default",
        ),
        RouteState(destination=ip_network("10.244.0.0/26"), kind=RouteFor.BLACKHOLE, metric=4294967040, protocol=79),
    ),
    attachments=(
        AttachmentState(
            namespace="shop",
            pod="web-0",
            container_id="sandbox2",
            interface="eth0",
            host_interface="loom00000000002",
            mac=Mac("0a:58:0a:f4:00:02"),
            addresses=(ip_address("10.244.0.2"),),
            state=State.READY,
        ),
    ),
)

KERNEL = KernelRoutes(
    routes=(
        KernelRoute(destination=ip_network("0.0.0.0/0"), via=ip_address("192.168.0.254"), device="eth0", protocol=16),
        KernelRoute(destination=ip_network("192.168.0.0/24"), device="eth0", protocol=2),
        KernelRoute(destination=ip_network("10.244.0.2/32"), device="loom00000000002", protocol=79),
        KernelRoute(
            destination=ip_network("10.244.0.64/26"),
            via=ip_address("10.244.0.64"),
            device="loom.vxlan",
            metric=70000,
            protocol=79,
        ),
        KernelRoute(
            destination=ip_network("10.99.0.0/24"), via=ip_address("192.168.0.9"), device="eth0", metric=600, protocol=12
        ),
        KernelRoute(
            destination=ip_network("10.244.9.0/26"), via=ip_address("192.168.0.9"), device="eth0", metric=7, protocol=79
        ),
    )
)
