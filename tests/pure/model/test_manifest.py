from __future__ import annotations

import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.errors import ConfigError
from netloom.model.manifest import Manifest, read
from netloom.model.resources import AnyResource, Encapsulation, FelixConfiguration, IPPool, IPReservation


def manifest(text: str, file: str = "f.yaml") -> Manifest:
    return read([(file, dedent(text).encode())])


def resource(text: str) -> AnyResource:
    found = manifest(text)
    assert [str(e) for e in found.errors] == []
    (item,) = found.items
    return item.resource


def error(text: str) -> ConfigError:
    found = manifest(text)
    assert found.items == ()
    (only,) = found.errors
    return only


def pool(spec: str = "cidr: 10.244.0.0/16", *, version: str = "netloom.io/v1", metadata: str = "name: a") -> str:
    """The first line of the spec is line 4, the metadata stands below it."""
    lines = "\n".join(f"  {line}" for line in dedent(spec).strip().splitlines())
    return f"apiVersion: {version}\nkind: IPPool\nspec:\n{lines}\nmetadata: {{{metadata}}}\n"


def test_all_documents_and_files_are_read() -> None:
    files = [("a.yaml", f"{pool()}---\n{pool(metadata='name: b')}".encode()), ("c.yaml", pool(metadata="name: c").encode())]
    assert [(item.file, item.resource.name, item.where()) for item in read(files).items] == [
        ("a.yaml", "a", "a.yaml:1"),
        ("a.yaml", "b", "a.yaml:7"),
        ("c.yaml", "c", "c.yaml:1"),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "apiVersion: v1\nkind: List",
        "apiVersion: projectcalico.org/v3\nkind: IPPoolList",
        "kind: List\nmetadata: {resourceVersion: ''}",
    ],
)
def test_a_list_is_what_it_holds(header: str) -> None:
    found = manifest(
        f"{header}\nitems:\n- {json.dumps({'apiVersion': 'v1', 'kind': 'Namespace', 'metadata': {'name': 'shop'}})}\n"
    )
    assert [(item.resource.kind, item.where()) for item in found.items] == [("Namespace", found.items[0].where())]
    assert found.errors == ()


def test_what_an_api_server_adds_is_dropped() -> None:
    noise = "name: a, uid: u, resourceVersion: '5', creationTimestamp: null, generation: 2, managedFields: [{manager: kubectl}]"
    last = "annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}', mine: 'yes'}"
    for version in ("netloom.io/v1", "projectcalico.org/v3"):
        found = resource(pool(version=version, metadata=f"{noise}, {last}"))
        assert (found.name, found.metadata.annotations) == ("a", {"mine": "yes"})


def test_a_namespace_of_kubernetes_is_its_labels() -> None:
    found = resource(
        """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {team: a}, uid: x}
        spec: {finalizers: [kubernetes]}
        status: {phase: Active}
        """
    )
    assert (found.kind, found.name, found.metadata.labels) == ("Namespace", "shop", {"team": "a"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (pool("cidr: 10.0.0.1/8"), "f.yaml:4: spec.cidr: '10.0.0.1/8' has host bits set; did you mean 10.0.0.0/8?"),
        (pool("cidr: 10.0.0.0/8\nblocksize: 26"), "f.yaml:5: spec.blocksize: there is no such field; did you mean blockSize?"),
        (pool("cidr: 10.0.0.0/8\nblockSize: 12"), "f.yaml:5: spec.blockSize: 12 is out of range; IPv4 takes 20 to 32"),
        (pool("cidr: 10.0.0.0/8\nblockSize: '26'"), "f.yaml:5: spec.blockSize: expected a whole number, got text"),
        (pool("cidr: 10.0.0.0/8\nnatOutgoing: yes"), "f.yaml:5: spec.natOutgoing: expected true or false, got text"),
        (
            pool("cidr: 10.0.0.0/8\nencapsulation: vxlan"),
            "f.yaml:5: spec.encapsulation: 'vxlan' is none of None, VXLAN, VXLANCrossSubnet",
        ),
        (
            pool("cidr: 10.0.0.0/8\nnodeSelector: a = b"),
            "f.yaml:5: spec.nodeSelector: selector 'a = b': '=' makes no sense here",
        ),
        (pool("blockSize: 26"), "f.yaml:3: spec.cidr: is missing"),
        (pool("cidr: 10"), "f.yaml:4: spec.cidr: expected text, got 10"),
        (
            pool(metadata="name: A"),
            "f.yaml:5: metadata.name: 'A' is not a name (lower case letters, digits, '-' and '.', at most 253)",
        ),
        (pool(metadata=""), "f.yaml:5: metadata.name: is missing"),
        (pool(metadata="name: a, labels: {x: '1', on: 5}"), "f.yaml:5: metadata.labels[on]: expected text, got a whole number"),
        (pool(metadata="name: a, colour: red"), "f.yaml:5: metadata.colour: there is no such field"),
        ("kind: IPPool", "f.yaml:1: apiVersion: is missing"),
        ("apiVersion: 1", "f.yaml:1: apiVersion: expected text"),
        ("apiVersion: netloom.io/v1", "f.yaml:1: kind: is missing"),
        ("apiVersion: netloom.io/v2\nkind: IPPool", "f.yaml:1: apiVersion: 'netloom.io/v2' is not read"),
        ("apiVersion: netloom.io/v1\nkind: IPPol", "f.yaml:2: kind: 'IPPol' is not known here; did you mean IPPool?"),
        ("apiVersion: v1\nkind: Pod", "f.yaml:2: kind: 'Pod' is not known here"),
        (
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy",
            "f.yaml:2: kind: 'GlobalNetworkPolicy' is not known here",
        ),
        ("- a", "f.yaml:1: a manifest is a mapping of fields, not a list"),
        ("just text", "f.yaml:1: a manifest is a mapping of fields, not text"),
    ],
)
def test_an_error_names_line_field_and_reason_in_plain_words(text: str, expected: str) -> None:
    assert str(error(text)).startswith(expected)


def test_an_unknown_field_comes_with_those_that_are_known() -> None:
    fields = "fields: cidr, blockSize, encapsulation, natOutgoing, nodeSelector, namespaceSelector, disabled"
    fields += ", disableBGPExport, network, node, gateway, ipRange, internal, isolated"
    assert error(pool("cidr: 10.0.0.0/8\nx: 1")).hint == fields


def test_all_errors_of_all_files_are_told_at_once() -> None:
    bad = pool("cidr: 10.0.0.1/8")
    found = read([("a.yaml", f"{bad}---\n{pool()}---\n{bad}".encode()), ("b.yaml", b"a: ["), ("c.yaml", bad.encode())])
    assert [e.where for e in found.errors] == ["a.yaml:4", "a.yaml:16", "b.yaml:2", "c.yaml:4"]
    assert [item.where() for item in found.items] == ["a.yaml:7"]


def test_an_object_stands_in_one_place() -> None:
    found = read([("a.yaml", pool().encode()), ("b.yaml", pool().encode())])
    assert [str(e) for e in found.errors] == ["b.yaml:5: IPPool a is already in a.yaml:1"]


# Calico's own manifests.


def calico(spec: str) -> str:
    return pool(f"cidr: 10.244.0.0/16\n{spec}", version="projectcalico.org/v3")


@pytest.mark.parametrize(
    ("spec", "encapsulation"),
    [
        ("", Encapsulation.NONE),
        ("vxlanMode: Never\nipipMode: Never", Encapsulation.NONE),
        ("vxlanMode: Always", Encapsulation.VXLAN),
        ("vxlanMode: CrossSubnet", Encapsulation.VXLAN_CROSS_SUBNET),
        ("vxlanMode: null", Encapsulation.NONE),
        ("ipipMode: Always", Encapsulation.IPIP),
        ("ipipMode: CrossSubnet\nvxlanMode: Never", Encapsulation.IPIP_CROSS_SUBNET),
    ],
)
def test_calicos_modes_are_an_encapsulation(spec: str, encapsulation: Encapsulation) -> None:
    found = resource(calico(spec))
    assert isinstance(found, IPPool)
    assert found.spec.encapsulation is encapsulation


def test_calicos_default_pool_is_taken_as_it_is() -> None:
    found = resource(
        calico(
            """
            blockSize: 26
            natOutgoing: true
            nodeSelector: all()
            ipipMode: Never
            vxlanMode: CrossSubnet
            disableBGPExport: true
            allowedUses: [Workload, Tunnel]
            assignmentMode: Automatic
            """.replace("            ", "")
        )
        + "status: {conditions: []}\n"
    )
    assert isinstance(found, IPPool)
    assert (found.spec.block_size, found.spec.nat_outgoing, found.spec.node_selector) == (26, True, "all()")
    assert found.spec.disable_bgp_export


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ipipMode: Sometimes", "spec.ipipMode: 'Sometimes' is none of Never, Always, CrossSubnet"),
        ("vxlanMode: Always\nipipMode: Always", "spec.vxlanMode: one of ipipMode and vxlanMode has to be Never"),
        ("vxlanMode: Sometimes", "spec.vxlanMode: 'Sometimes' is none of Never, Always, CrossSubnet"),
        ("vxlanMode: [Always]", "spec.vxlanMode"),
        ("allowedUses: [Workload]", "spec.allowedUses"),
        ("allowedUses: [LoadBalancer]", "spec.allowedUses"),
        ("assignmentMode: Manual", "spec.assignmentMode"),
        ("nat-outgoing: true", "spec.nat-outgoing: this field of Calico's is not supported"),
        ("blockSize: 5", "spec.blockSize: 5 is out of range"),
    ],
)
def test_what_calico_has_and_we_have_not_is_refused_by_name(spec: str, expected: str) -> None:
    assert str(error(calico(spec))).startswith(f"f.yaml:5: {expected}")


def test_all_fields_that_are_refused_are_named_at_once() -> None:
    found = manifest(calico("ipipMode: Perhaps\nassignmentMode: Manual\nwhatever: 1"))
    assert [e.path for e in found.errors] == ["spec.ipipMode", "spec.assignmentMode", "spec.whatever"]


def test_calicos_felix_configuration_says_which_vxlan() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {vxlanVNI: 1, vxlanPort: 8472}"
    found = resource(text)
    assert isinstance(found, FelixConfiguration)
    assert (found.spec.vxlan_vni, found.spec.vxlan_port, found.spec.udp_port) == (1, 8472, 0)
    assert error(text.replace("vxlanPort", "bpfEnabled")).path == "spec.bpfEnabled"
    assert error(text.replace("default", "node.a")).path == "metadata.name"
    assert error(text.replace("8472", "84720")).path == "spec.vxlanPort"


def test_calicos_reservation_is_ours() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: a}\nspec: {reservedCIDRs: [10.0.0.0/30]}"
    assert resource(text) == resource(text.replace("projectcalico.org/v3", "netloom.io/v1"))
    assert error(text.replace("/30", "/3x")).path == "spec.reservedCIDRs[0]"


def test_calico_takes_single_addresses_for_prefixes() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: a}\nspec: {reservedCIDRs: [192.168.2.3, 'cafe:f00d::1']}"
    found = resource(text)
    assert isinstance(found, IPReservation)
    assert list(map(str, found.spec.reserved_cidrs)) == ["192.168.2.3/32", "cafe:f00d::1/128"]
    assert "write 192.168.2.3/32 for one address" in str(error(text.replace("projectcalico.org/v3", "netloom.io/v1")))


def test_items_of_a_typed_list_need_not_say_what_they_are() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: IPPoolList\nitems: [{metadata: {name: a}, spec: {cidr: 10.0.0.0/16}}]"
    assert resource(text).kind == "IPPool"


# Whatever is written, the answer is a manifest.

words = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "name",
        "cidr",
        "items",
        "labels",
        "List",
        "IPPool",
        "netloom.io/v1",
        "projectcalico.org/v3",
        "v1",
        "Namespace",
        "a",
        "10.0.0.0/8",
        "vxlanMode",
        "annotations",
        "claims",
    ]
)
json_like = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)
objects = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["netloom.io/v1", "projectcalico.org/v3", "v1"]),
        "kind": st.sampled_from(["IPPool", "IPReservation", "Namespace", "Node", "Endpoint", "IPBlock"]),
    },
    optional={"metadata": json_like, "spec": json_like, "status": json_like, "items": json_like},
)


@given(json_like | objects)
def test_no_values_are_worse_than_refused(value: object) -> None:
    found = read([("f", json.dumps(value).encode())])
    assert all(str(e.where).startswith("f") for e in found.errors)


@given(st.binary(max_size=100))
def test_no_bytes_are_worse_than_refused(data: bytes) -> None:
    assert all(isinstance(e, ConfigError) for e in read([("f", data)]).errors)
