from __future__ import annotations

import msgspec

from netloom.ipam.audit import Records
from netloom.ipam.audit_node import audit_node
from netloom.ipam.claims import Claims, Held
from netloom.model.attachments import Attachment, State
from netloom.model.resources import AnyResource, Endpoint, EndpointSpec, Metadata
from tests.pure.ipam.making import attachment, block, claim, node, prefix

MINE = Claims(node="n1", node_id="n1-1", held=(Held(cidr=prefix("10.244.0.0/26"), slot=prefix("10.244.0.0/26")),))
BLOCK = block("10.244.0.0/26", claim("10.244.0.0/26", "n1"))


def ready(name: str, sequence: int, address: str) -> Attachment:
    return attachment(name, sequence, address, state=State.READY)


def endpoint(of: Attachment, where: str = "n1") -> Endpoint:
    spec = EndpointSpec(
        node=where,
        network="netloom",
        container_id=of.key.container_id,
        interface="eth0",
        host_interface=of.host_interface,
        pod=of.pod,
        addresses=tuple(i.ip for i in of.addresses),
        mac=of.mac,
    )
    return Endpoint(metadata=Metadata(name=of.host_interface, namespace="default"), spec=spec)


def messages(claims: Claims, attachments: list[Attachment], *resources: AnyResource) -> list[str]:
    return [f.message for f in audit_node(Records.of(1, [node("n1", "n1-1"), *resources]), claims, attachments)]


A, B = ready("a", 1, "10.244.0.2/32"), ready("b", 2, "10.244.0.3/32")


def test_where_all_agree_nothing_is_found() -> None:
    pending = attachment("c", 3, "10.244.0.4/32")
    assert messages(MINE, [A, B, pending], BLOCK, endpoint(A), endpoint(B)) == []


def test_an_endpoint_without_attachment_is_left_over_and_goes() -> None:
    left, elsewhere = endpoint(B), endpoint(ready("z", 9, "10.244.0.70/32"), "n2")
    (finding,) = audit_node(Records.of(1, [BLOCK, endpoint(A), left, elsewhere]), MINE, [A])
    assert finding.message == f"endpoint default/{B.host_interface} is not attached on this node any more"
    assert finding.repair
    assert (finding.repair.resource, finding.repair.delete) == (left, True)


def test_an_endpoint_whose_pod_is_leaving_is_not_left_over() -> None:
    leaving = attachment("b", 2, "10.244.0.3/32", state=State.LEAVING)
    assert messages(MINE, [leaving], BLOCK, endpoint(B)) == []


def test_a_pod_that_is_not_published_or_published_wrongly_is_said() -> None:
    wrong = endpoint(ready("b", 2, "10.244.0.9/32"))
    assert messages(MINE, [A, B], BLOCK, wrong) == [
        "pod default/a is attached and has no endpoint",
        "pod default/b has 10.244.0.3; its endpoint says 10.244.0.9",
    ]


def test_an_address_outside_the_nodes_blocks_is_said() -> None:
    out = ready("a", 1, "10.244.9.2/32")
    assert messages(MINE, [out], BLOCK, endpoint(out)) == ["pod default/a has 10.244.9.2, which lies in no block of this node"]


def test_a_pod_on_a_contested_block_is_said() -> None:
    contested = MINE.having(msgspec.structs.replace(h, contested=True) for h in MINE.held)
    assert messages(contested, [A], block("10.244.0.0/26", claim("10.244.0.0/26", "n2")), endpoint(A)) == [
        "pod default/a has 10.244.0.2 of block 10.244.0.0/26, which another node claims"
    ]


def test_an_address_held_twice_is_said() -> None:
    twin = ready("b", 2, "10.244.0.2/32")
    found = messages(MINE, [A, twin], BLOCK, endpoint(A), endpoint(twin))
    assert found == ["10.244.0.2 is held by pod default/a and pod default/b on this node"]


def test_claims_that_only_one_side_knows_are_said() -> None:
    other = block("10.244.0.64/26", claim("10.244.0.64/26", "n1"))
    assert messages(MINE, [], other) == [
        "10.244.0.64/26 is claimed for this node, which does not know of it",
        "10.244.0.0/26 is this node's, and the datastore does not say so",
    ]


def test_what_interfaces_say_is_compared_with_what_is_attached() -> None:
    records = Records.of(1, [node("n1", "n1-1"), BLOCK, endpoint(A), endpoint(B)])

    def found(*links: tuple[str, str]) -> list[str]:
        return [f.message for f in audit_node(records, MINE, [A, B], dict(links))]

    ours = (A.host_interface, A.alias), (B.host_interface, B.alias)
    assert found(*ours, ("eth0", "netloom"), ("eth1", "netloom is great, and this is no address")) == []
    assert found(ours[0], ("foo0", B.alias)) == [
        f"pod default/b is attached and its interface {B.host_interface} is not there",
        "interface foo0 says that it is the one of pod default/b with 10.244.0.3",
    ]
    gone = ready("z", 9, "10.244.0.3/32")
    assert found(*ours, ("foo0", gone.alias)) == [
        f"interface foo0 says that it is the one of container {gone.key.container_id}, which is not attached, with 10.244.0.3"
    ]
