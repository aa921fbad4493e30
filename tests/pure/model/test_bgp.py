"""BGPConfiguration, BGPPeer, BGPFilter, Secret, Service, and what a Node says of BGP: what is taken, and what is refused and why."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from textwrap import dedent
from typing import Any

import pytest

from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_filter import BGPFilter
from netloom.model.bgp_peer import BGPPeer
from netloom.model.manifest import Manifest, read
from netloom.model.resources import AnyResource, Node, NodeSpec, builtins, convert, decode, encode
from netloom.model.routing import Bfd, Change, Community, FilterRule, Match, NextHop
from netloom.model.secret import Secret
from netloom.model.service import Service, TrafficPolicy

CONFIGURATION = {
    "nodeToNodeMeshEnabled": False,
    "asNumber": "64512.1",
    "listenPort": 1790,
    "bindMode": "NodeIP",
    "communities": [{"name": "far", "value": "65000:1"}, {"name": "large", "value": "65000:1:2"}],
    "prefixAdvertisements": [{"cidr": "10.244.0.0/16", "communities": ["far", "large", "65000:7"]}],
    "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {"cidr": "fd00:96::/108"}],
    "serviceExternalIPs": [{"cidr": "203.0.113.0/24"}],
    "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
    "serviceLoadBalancerAggregation": "Disabled",
    "ignoredInterfaces": ["docker*", "eth9"],
}
PEER = {
    "nodeSelector": "rack == 'a'",
    "peerIP": "192.0.2.1:1790",
    "asNumber": 64513,
    "localASNumber": 64999,
    "nextHopMode": "Self",
    "password": {"secretKeyRef": {"name": "fabric", "key": "rack-a"}},
    "sourceAddress": "None",
    "keepaliveTime": "10s",
    "holdTime": "30s",
    "numAllowedLocalASNumbers": 1,
    "ttlSecurity": 1,
    "reachableBy": "192.0.2.2",
    "filters": ["in", "out"],
    "bfd": {"interval": "100ms", "multiplier": 5},
    "prefixLimit": 500,
    "families": ["IPv4", "IPv6"],
}
RULE = {
    "cidr": "10.0.0.0/8",
    "matchOperator": "In",
    "prefixLength": {"min": 16, "max": 24},
    "source": "RemotePeers",
    "interface": "eth*",
    "peerType": "eBGP",
    "communities": {"values": ["65000:1", "65000:1:2"]},
    "asPathPrefix": [64513, "1.1"],
    "priority": 512,
    "action": "Accept",
    "operations": [
        {"addCommunity": {"value": "65000:9"}},
        {"prependASPath": {"prefix": [64512, 64512]}},
        {"setPriority": {"value": 700}},
    ],
}


def made(kind: str, spec: object, name: str = "default", **fields: object) -> AnyResource:
    return convert({"kind": kind, "apiVersion": "netloom.io/v1", "metadata": {"name": name}, "spec": spec, **fields})


def refusal(kind: str, spec: object, name: str = "default") -> str:
    with pytest.raises(ValueError) as caught:
        made(kind, spec, name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("BGPConfiguration", CONFIGURATION),
        ("BGPPeer", PEER),
        (
            "BGPPeer",
            {"peerSelector": "has(reflector)", "reversePeering": "Manual", "maxRestartTime": "2m", "gracefulRestart": True},
        ),
        ("BGPFilter", {"importV4": [RULE], "exportV6": [{"action": "Reject"}]}),
        (
            "Node",
            {
                "bgp": {"asNumber": 64513, "routeReflectorClusterID": "244.0.0.1", "ipv4Address": "192.0.2.11/24"},
                "draining": True,
            },
        ),
    ],
)
def test_it_survives_json_and_plain_values(kind: str, spec: object) -> None:
    resource = made(kind, spec)
    assert decode(encode(resource)) == resource
    assert convert(builtins(resource)) == resource


def test_a_peers_fields_are_what_was_written() -> None:
    peer = made("BGPPeer", PEER)
    assert isinstance(peer, BGPPeer)
    spec = peer.spec
    assert spec.peer == (ip_address("192.0.2.1"), 1790)
    assert (spec.as_number, spec.local_as_number, spec.next_hop_mode) == (64513, 64999, NextHop.SELF)
    assert spec.bfd is not None
    assert spec.bfd.value == Bfd(100, 5)


def test_a_filters_rule_is_a_value_for_the_calculation() -> None:
    found = made("BGPFilter", {"importV4": [RULE]})
    assert isinstance(found, BGPFilter)
    assert found.value.imports[4] == (
        FilterRule(
            accept=True,
            prefix=ip_network("10.0.0.0/8"),
            match=Match.IN,
            lengths=(16, 24),
            learned=True,
            interface="eth*",
            external=True,
            communities=(Community((65000, 1)), Community((65000, 1, 2))),
            path=(64513, 65537),
            priority=512,
            changes=(Change(add_community=Community((65000, 9))), Change(prepend=(64512, 64512)), Change(priority=700)),
        ),
    )
    assert found.value.exports == {4: (), 6: ()}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"asNumber": 0}, "AS 0 is nobody's"),
        ({"asNumber": 64512.1}, "a dotted one goes into quotes"),
        ({"listenPort": 65536}, "spec.listenPort: 65536 is out of range"),
        ({"bindMode": "eth0"}, "Invalid enum value 'eth0'"),
        ({"communities": [{"name": "a", "value": "1"}]}, "value: '1' is no community"),
        ({"communities": [{"name": "a", "value": "1:1"}, {"name": "a", "value": "1:2"}]}, "spec.communities: a is here twice"),
        ({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["1:2:3:4"]}]}, "'1:2:3:4' is no community"),
        ({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["a b"]}]}, "is not a name"),
        ({"prefixAdvertisements": [{"cidr": "10.0.0.1/8", "communities": ["1:2"]}]}, "did you mean 10.0.0.0/8"),
        ({"serviceClusterIPs": [{"cidr": "ten"}]}, "has no prefix length"),
        ({"ignoredInterfaces": ["*"]}, "is every interface"),
        ({"ignoredInterfaces": ['eth0"; include "x']}, "is no interface's name"),
        ({"nodeMeshMaxRestartTime": "2h"}, "spec.nodeMeshMaxRestartTime: 2h is out of range; 0s to 4095s"),
        ({"nodeMeshHoldTime": "2s"}, "spec.nodeMeshHoldTime: 2s is out of range"),
        ({"nodeMeshBFD": {"interval": "1ms"}}, "interval: 1ms is out of range"),
        ({"nodeMeshBFD": {}, "nodeMeshMaxRestartTime": "2m"}, "does not go with nodeMeshMaxRestartTime"),
        ({"nodeToNodeMeshEnabled": False, "nodeMeshBFD": {}}, "spec.nodeMeshBFD: there is no mesh"),
        ({"asNmber": 1}, "unknown field `asNmber`"),
    ],
)
def test_a_wrong_configuration_is_refused(spec: dict[str, Any], reason: str) -> None:
    assert reason in refusal("BGPConfiguration", spec)


def test_a_nodes_configuration_says_only_what_is_the_nodes() -> None:
    found = made("BGPConfiguration", {"listenPort": 1790, "bindMode": "NodeIP"}, "node.a.example")
    assert isinstance(found, BGPConfiguration)
    assert found.node == "a.example"
    assert "belongs into `default`; a node's own is in its Node" in refusal("BGPConfiguration", {"asNumber": 7}, "node.a")
    assert "belongs into `default`" in refusal("BGPConfiguration", {"nodeToNodeMeshEnabled": False}, "node.a")
    assert "configures nobody" in refusal("BGPConfiguration", {}, "other")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, "spec.peerIP: is missing; one of peerIP and peerSelector"),
        ({"peerIP": "192.0.2.1"}, "spec.asNumber: is missing"),
        ({"peerIP": "192.0.2.1", "asNumber": 0}, "AS 0 is nobody's"),
        ({"peerIP": "192.0.2.300", "asNumber": 1}, "spec.peerIP: '192.0.2.300'"),
        ({"peerIP": "192.0.2.1:0", "asNumber": 1}, "port: 0 is out of range"),
        ({"peerIP": "fe80::1", "asNumber": 1}, "an address of a link"),
        ({"peerSelector": "a == 'b'", "peerIP": "192.0.2.1"}, "spec.peerIP: peerSelector chooses nodes"),
        ({"peerSelector": "a == 'b'", "asNumber": 1}, "spec.asNumber: peerSelector chooses nodes"),
        ({"peerSelector": "a =="}, "spec.peerSelector: selector 'a ==': expected a quoted value"),
        ({"node": "a", "nodeSelector": "all()", "peerSelector": "all()"}, "one of node and nodeSelector"),
        ({"node": "A b", "peerSelector": "all()"}, "spec.node: 'A b' is not a name"),
        ({"reversePeering": "Manual", "peerIP": "192.0.2.1", "asNumber": 1}, "spec.reversePeering: belongs to peerSelector"),
        ({"peerSelector": "all()", "reachableBy": "192.0.2.1"}, "spec.reachableBy: peerSelector"),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "reachableBy": "fd00::1"}, "fd00::1 is no gateway to 192.0.2.1"),
        ({"peerSelector": "all()", "holdTime": "2s"}, "spec.holdTime: 2s is out of range"),
        (
            {"peerSelector": "all()", "holdTime": "30s", "keepaliveTime": "30s"},
            "spec.keepaliveTime: 30s is no less than holdTime",
        ),
        (
            {"peerSelector": "all()", "keepaliveTime": "240s"},
            "spec.keepaliveTime: 4m is no less than holdTime, which is 4m unless",
        ),
        ({"peerSelector": "all()", "keepaliveTime": "500ms"}, "spec.keepaliveTime: 500ms is out of range"),
        ({"peerSelector": "all()", "maxRestartTime": "2h"}, "spec.maxRestartTime: 2h is out of range"),
        ({"peerSelector": "all()", "bfd": {}, "gracefulRestart": True}, "does not go with gracefulRestart"),
        ({"peerSelector": "all()", "bfd": {}, "maxRestartTime": 60}, "does not go with maxRestartTime"),
        ({"peerSelector": "all()", "gracefulRestart": False, "maxRestartTime": 60}, "gracefulRestart is false"),
        ({"peerSelector": "all()", "ttlSecurity": 255}, "spec.ttlSecurity: 255 is out of range"),
        ({"peerSelector": "all()", "numAllowedLocalASNumbers": -1}, "spec.numAllowedLocalASNumbers: -1"),
        ({"peerSelector": "all()", "prefixLimit": -1}, "spec.prefixLimit: -1"),
        ({"peerSelector": "all()", "filters": ["a", "a"]}, "spec.filters[1]: a is here twice"),
        ({"peerSelector": "all()", "filters": ['a"']}, "spec.filters[0]"),
        ({"peerSelector": "all()", "families": ["IPv4", "IPv4"]}, "spec.families: each once"),
        ({"peerSelector": "all()", "nextHopMode": "Me"}, "Invalid enum value 'Me'"),
        ({"peerSelector": "all()", "password": {"secretKeyRef": {"name": "a", "key": "../b"}}}, "is no key of a Secret"),
    ],
)
def test_a_wrong_peer_is_refused(spec: dict[str, Any], reason: str) -> None:
    assert reason in refusal("BGPPeer", spec, "tor")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({}, "required field `action`"),
        ({"action": "Perhaps"}, "Invalid enum value 'Perhaps'"),
        ({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}, "spec.importV4[0].cidr: fd00::/8 is no IPv4 prefix"),
        ({"action": "Accept", "cidr": "10.0.0.0/8"}, "spec.importV4[0].matchOperator: is missing"),
        ({"action": "Accept", "matchOperator": "In"}, "spec.importV4[0].cidr: is missing"),
        ({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "Within"}, "Invalid enum value 'Within'"),
        ({"action": "Accept", "prefixLength": {"min": 8}}, "cidr is missing"),
        ({**RULE, "prefixLength": {"max": 33}}, "16 is no"),
        ({**RULE, "prefixLength": {"min": 24, "max": 16}}, "24 to 16 is no range of lengths"),
        ({**RULE, "prefixLength": {"min": 4}}, "nothing in 10.0.0.0/8 is shorter than /8"),
        ({**RULE, "matchOperator": "Equal"}, "Equal says the length already"),
        ({"action": "Accept", "source": "Pods"}, "Invalid enum value 'Pods'"),
        ({"action": "Accept", "interface": "eth0 "}, "spec.importV4[0].interface"),
        ({"action": "Accept", "communities": {"values": []}}, "1 to 16 communities"),
        ({"action": "Accept", "communities": {"values": ["x"]}}, "spec.importV4[0].communities.values[0]: 'x' is no community"),
        ({"action": "Accept", "asPathPrefix": [0]}, "AS 0 is nobody's"),
        ({"action": "Accept", "priority": 0}, "spec.importV4[0].priority: 0 is out of range"),
        ({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}, "nothing becomes of a route that is rejected"),
        ({"action": "Accept", "operations": [{}]}, "spec.importV4[0].operations[0]: says one of"),
        ({"action": "Accept", "operations": [{"prependASPath": {"prefix": []}}]}, "1 to 16 AS numbers"),
        ({"action": "Accept", "operations": [{"addCommunity": {"value": "1"}}]}, "addCommunity.value: '1' is no community"),
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any], reason: str) -> None:
    if reason == "16 is no":
        reason = "8 to 33 is no range of lengths; IPv4 has 0 to 32"
    assert reason in refusal("BGPFilter", {"importV4": [rule]}, "in")


@pytest.mark.parametrize(
    ("bgp", "reason"),
    [
        ({"asNumber": 0}, "AS 0 is nobody's"),
        ({"routeReflectorClusterID": "1"}, "spec.bgp.routeReflectorClusterID"),
        ({"routeReflectorClusterID": "0.0.0.0"}, "0.0.0.0 is nobody's"),
        ({"ipv4Address": "fd00::1/64"}, "spec.bgp.ipv4Address: fd00::1/64 is no IPv4 address"),
    ],
)
def test_what_a_node_says_wrongly_of_bgp_is_refused(bgp: dict[str, Any], reason: str) -> None:
    assert reason in refusal("Node", {"bgp": bgp}, "a")


def test_people_s_fields_of_a_node_stay_when_the_node_writes_its_own() -> None:
    node = made("Node", {"mtu": 1500, "bgp": {"routeReflectorClusterID": "244.0.0.1"}, "draining": True}, "a")
    assert isinstance(node, Node)
    written = NodeSpec(mtu=9000).of_people(node.spec)
    assert (written.mtu, written.bgp, written.draining) == (9000, node.spec.bgp, True)
    assert written.bgp is not None
    assert written.bgp.cluster_id == IPv4Address("244.0.0.1")


def test_a_service_says_which_addresses_and_which_nodes() -> None:
    spec = {"clusterIPs": ["10.96.0.10", "fd00:96::10"], "externalTrafficPolicy": "Local", "nodes": ["a"]}
    found = convert({"kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    assert isinstance(found, Service)
    assert found.spec.external_traffic_policy is TrafficPolicy.LOCAL
    assert found.key == "shop/web"


def secret(text: str) -> Manifest:
    return read([("s.yaml", dedent(text).encode())])


def test_kubernetes_secrets_apply_as_they_are() -> None:
    found = secret("""
        apiVersion: v1
        kind: Secret
        metadata: {name: fabric, namespace: kube-system, uid: 5f0e}
        type: Opaque
        immutable: true
        data: {rack-a: aHVzaA==}
        stringData: {rack-b: shush}
        """)
    assert found.errors == ()
    (item,) = found.items
    assert isinstance(item.resource, Secret)
    assert item.resource.key == "fabric"
    assert {key: item.resource.value(key) for key in item.resource.data} == {"rack-a": b"hush", "rack-b": b"shush"}
    assert item.resource.value("rack-c") is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("data: {a: hush!}", "is no base64; plain text goes into stringData"),
        ("data: {../a: aHVzaA==}", "'../a' is no key of a Secret"),
        ("stringData: {a: 5}", "stringData[a]"),
    ],
)
def test_a_wrong_secret_is_refused_and_not_shown(data: str, reason: str) -> None:
    (error,) = secret(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{data}\n").errors
    assert reason in str(error)
    assert "hush" not in str(error)
    assert "aHVz" not in str(error)


def test_what_a_secret_holds_is_never_printed() -> None:
    found = convert({"kind": "Secret", "metadata": {"name": "fabric"}, "data": {"rack-a": "aHVzaA=="}})
    texts = [repr(found), str(found), f"{[found]}", str(builtins(found)), f"{found!r}"]
    assert all("aHVz" not in text and "hush" not in text for text in texts)
    assert builtins(found)["data"] == {"rack-a": None}


def calico(kind: str, spec: str, name: str = "default") -> Manifest:
    lines = "\n".join(f"  {line}" for line in dedent(spec).strip().splitlines())
    text = (
        f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}, creationTimestamp: null}}\nspec:\n{lines}\n"
    )
    return read([("c.yaml", text.encode())])


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (
            "BGPConfiguration",
            """
            logSeverityScreen: Info
            nodeToNodeMeshEnabled: true
            asNumber: 63400
            listenPort: 178
            bindMode: NodeIP
            programClusterRoutes: EnabledNoEncapOnly
            nodeMeshMaxRestartTime: 120s
            nodeMeshPassword: {secretKeyRef: {name: bgp-secrets, key: rr-password}}
            communities: [{name: bgp-large-community, value: "63400:300:100"}]
            prefixAdvertisements: [{cidr: 172.218.4.0/26, communities: [bgp-large-community, "63400:120"]}]
            serviceClusterIPs: [{cidr: 10.96.0.0/12}]
            serviceExternalIPs: [{cidr: 104.244.42.129/32}]
            """,
        ),
        ("BGPPeer", "node: rack1-host1\npeerIP: 192.168.1.1\nasNumber: 63400\nkeepOriginalNextHop: true"),
        ("BGPPeer", "nodeSelector: rack == 'rack-1'\npeerSelector: route-reflector == 'true'\nmaxRestartTime: 2m"),
        (
            "BGPFilter",
            """
            exportV4:
            - {action: Accept, matchOperator: In, cidr: 77.0.0.0/16, source: RemotePeers}
            importV6:
            - {action: Reject, matchOperator: NotIn, cidr: "9000::0/64"}
            """.replace("9000::0", "9000::"),
        ),
        (
            "Node",
            """
            addresses: [{address: 10.0.0.1/24}]
            ipv4VXLANTunnelAddr: 192.168.0.1
            orchRefs: [{nodeName: a, orchestrator: k8s}]
            bgp: {asNumber: 64513, ipv4Address: 10.0.0.1/24, ipv4IPIPTunnelAddr: 192.168.0.1, routeReflectorClusterID: 244.0.0.1}
            """,
        ),
    ],
)
def test_calicos_manifests_apply_as_they_are(kind: str, spec: str) -> None:
    found = calico(kind, spec)
    assert [str(e) for e in found.errors] == []
    assert [item.resource.kind for item in found.items] == [kind]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("BGPConfiguration", "localWorkloadPeeringIPV4: 169.254.1.2", "spec.localWorkloadPeeringIPV4"),
        ("BGPConfiguration", "logSeverityScreen: Debug", "spec.logSeverityScreen"),
        ("BGPConfiguration", "programClusterRoutes: Enabled", "spec.programClusterRoutes"),
        ("BGPConfiguration", "ipv4NormalRoutePriority: 100", "spec.ipv4NormalRoutePriority"),
        ("BGPPeer", "localWorkloadSelector: a == 'b'", "spec.localWorkloadSelector"),
        ("BGPPeer", "peerIP: 192.0.2.1\nasNumber: 1\nfailureDetectionMode: BFD", "spec.failureDetectionMode"),
        ("BGPPeer", "peerIP: 192.0.2.1\nasNumber: 1\nkeepOriginalNextHop: true\nnextHopMode: Self", "spec.keepOriginalNextHop"),
        ("Node", "kubernetes: true", "spec.kubernetes"),
        ("Node", "bgp: {password: x}", "spec.bgp.password"),
    ],
)
def test_what_calico_has_of_bgp_and_we_have_not_is_refused_by_name(kind: str, spec: str, expected: str) -> None:
    assert expected in [error.path for error in calico(kind, spec).errors]
