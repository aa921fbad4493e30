"""Points of the CNI checklist that a call's text decides.  The number of the point starts each row's id."""

from __future__ import annotations

from typing import Any

import pytest

from netloom.cni import messages
from netloom.cni.messages import Add, Check, Collect, Delete, Request, Status
from netloom.cni.results import Dns
from netloom.errors import CniError
from netloom.model.addresses import parse_address
from netloom.model.attachments import AttachmentKey, NetnsId, Wiring
from tests.pure.cni.calls import CONFIG, ENVIRONMENT, HOST, NETNS, PREVIOUS, stdin

MINIMAL = {"cniVersion": "1.1.0", "name": "blue"}


def parse(config: object = MINIMAL, netns: NetnsId | None = NETNS, **variables: str) -> Request:
    data = config if isinstance(config, bytes) else stdin(config)
    return messages.parse(ENVIRONMENT | variables, data, netns, HOST)


def refusal(config: object = MINIMAL, netns: NetnsId | None = NETNS, **variables: str) -> CniError:
    with pytest.raises(CniError) as e:
        parse(config, netns, **variables)
    return e.value


def add(config: object = MINIMAL, **variables: str) -> Add:
    request = parse(config, **variables)
    assert isinstance(request, Add)
    return request


def row(point: int, sentence: str, *values: object) -> Any:
    return pytest.param(*values, id=f"{point:02}: {sentence}")


# -- environment --


@pytest.mark.parametrize(
    ("variables", "code", "named"),
    [
        row(2, "an unknown command", {"CNI_COMMAND": "REMOVE"}, 4, ["CNI_COMMAND", "REMOVE"]),
        row(2, "a command in lower case", {"CNI_COMMAND": "add"}, 4, ["CNI_COMMAND"]),
        row(11, "no command", {"CNI_COMMAND": ""}, 4, ["CNI_COMMAND"]),
        row(
            11, "two missing variables are both named", {"CNI_CONTAINERID": "", "CNI_IFNAME": ""}, 4, ["CONTAINERID", "IFNAME"]
        ),
        row(
            11,
            "two wrong variables are both named",
            {"CNI_CONTAINERID": "-", "CNI_IFNAME": "a/b"},
            4,
            ["CONTAINERID", "IFNAME"],
        ),
        row(17, "ADD needs a namespace", {"CNI_NETNS": ""}, 4, ["CNI_NETNS"]),
        row(17, "CHECK needs a namespace", {"CNI_COMMAND": "CHECK", "CNI_NETNS": ""}, 4, ["CNI_NETNS"]),
        row(17, "DEL needs an interface", {"CNI_COMMAND": "DEL", "CNI_IFNAME": ""}, 4, ["CNI_IFNAME"]),
        row(17, "GC needs a path", {"CNI_COMMAND": "GC", "CNI_PATH": ""}, 4, ["CNI_PATH"]),
        row(19, "a container ID that climbs", {"CNI_CONTAINERID": "../x"}, 4, ["CNI_CONTAINERID"]),
        row(19, "a container ID that is an option", {"CNI_CONTAINERID": "-x"}, 4, ["CNI_CONTAINERID"]),
        row(19, "a container ID without end", {"CNI_CONTAINERID": "x" * 5000}, 4, ["CNI_CONTAINERID"]),
        *(
            row(20, f"interface {name!r}", {"CNI_IFNAME": name}, 4, ["CNI_IFNAME"])
            for name in (".", "..", "a/b", "a:b", "a b", "x" * 16, "eth\t0", "é", "eth%d", "all", "default")
        ),
        row(23, "CNI_ARGS without '='", {"CNI_ARGS": "FOO"}, 4, ["CNI_ARGS", "FOO"]),
        row(23, "CNI_ARGS with two '='", {"CNI_ARGS": "IgnoreUnknown=1;A=b=c"}, 4, ["CNI_ARGS", "A=b=c"]),
        row(23, "CNI_ARGS that ends too late", {"CNI_ARGS": "IgnoreUnknown=1;"}, 4, ["CNI_ARGS"]),
        row(23, "an unknown key in CNI_ARGS", {"CNI_ARGS": "FOO=BAR"}, 4, ["CNI_ARGS", "FOO"]),
        row(23, "an unknown key with IgnoreUnknown=0", {"CNI_ARGS": "FOO=BAR;IgnoreUnknown=0"}, 4, ["CNI_ARGS", "FOO"]),
        row(23, "IgnoreUnknown is neither", {"CNI_ARGS": "IgnoreUnknown=yes"}, 4, ["CNI_ARGS", "IgnoreUnknown"]),
        row(23, "a namespace that is no name", {"CNI_ARGS": "K8S_POD_NAMESPACE=A_B"}, 4, ["CNI_ARGS", "K8S_POD_NAMESPACE"]),
        row(23, "a pod that is no name", {"CNI_ARGS": "K8S_POD_NAME=../x"}, 4, ["CNI_ARGS", "K8S_POD_NAME"]),
        row(78, "an address in CNI_ARGS that is none", {"CNI_ARGS": "IP=10.0.0.300"}, 4, ["CNI_ARGS", "IP", "10.0.0.300"]),
        row(50, "a namespace's path that is not UTF-8", {"CNI_NETNS": "/run/\udcff"}, 4, ["CNI_NETNS"]),
    ],
)
def test_a_wrong_environment_is_refused_by_name(variables: dict[str, str], code: int, named: list[str]) -> None:
    error = refusal(**variables)
    assert error.code == code
    assert all(name in str(error) for name in named)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        row(1, "ADD", {"CNI_COMMAND": "ADD"}, Add),
        row(1, "CHECK", {"CNI_COMMAND": "CHECK"}, Check),
        row(
            1,
            "GC without a container",
            {"CNI_COMMAND": "GC", "CNI_CONTAINERID": "", "CNI_IFNAME": "", "CNI_NETNS": ""},
            Collect,
        ),
        row(17, "STATUS with nothing", {"CNI_COMMAND": "STATUS", **dict.fromkeys(list(ENVIRONMENT)[1:], "")}, Status),
        row(53, "DEL without a namespace", {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}, Delete),
        row(17, "ADD without a path", {"CNI_PATH": ""}, Add),
        row(23, "no CNI_ARGS", {"CNI_ARGS": ""}, Add),
    ],
)
def test_each_command_needs_what_the_specification_says(variables: dict[str, str], kind: type) -> None:
    assert isinstance(parse(MINIMAL | {"prevResult": PREVIOUS}, **variables), kind)


def test_the_pod_is_named_by_cni_args_in_any_order() -> None:
    """Point 23."""
    pairs = ENVIRONMENT["CNI_ARGS"].split(";")
    for ordered in (pairs, pairs[::-1], [*pairs[2:], *pairs[:2]]):
        request = add(CNI_ARGS=";".join(ordered))
        assert (request.namespace, request.pod, request.uid) == ("shop", "web-0", "3a-7")


def test_a_container_of_podman_is_a_pod_too() -> None:
    request = add(CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=romantic_Euler")
    assert (request.namespace, request.pod) == ("default", "romantic_Euler")


def test_empty_names_are_no_names() -> None:
    request = add(CNI_ARGS="K8S_POD_NAMESPACE=;K8S_POD_NAME=;K8S_POD_UID=")
    assert (request.namespace, request.pod, request.uid) == ("default", "", "")


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_the_nodes_own_namespace_is_code_8(command: str) -> None:
    """Point 15."""
    assert refusal(MINIMAL | {"prevResult": PREVIOUS}, HOST, CNI_COMMAND=command).code == 8


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_namespace_that_is_gone_is_refused_by_its_path(command: str) -> None:
    """Point 50."""
    error = refusal(MINIMAL | {"prevResult": PREVIOUS}, None, CNI_COMMAND=command)
    assert error.code == 4
    assert "CNI_NETNS" in str(error)
    assert ENVIRONMENT["CNI_NETNS"] in str(error)


def test_a_deletion_looks_at_the_identity_and_nothing_else() -> None:
    """Points 53 to 56: whatever else was lost or damaged since, in the namespace, in CNI_ARGS, in the configuration."""
    damaged = MINIMAL | {"mtu": "x", "prevResult": 5, "args": [], "wiring": "?", "runtimeConfig": "no", "ipam": {"type": "x"}}
    for netns in (NETNS, HOST, None):
        request = parse(damaged, netns, CNI_COMMAND="DEL", CNI_ARGS="??", CNI_NETNS="\udcff")
        assert request == Delete("1.1.0", AttachmentKey("blue", "6f3c0d", "eth0"))


# -- versions --


@pytest.mark.parametrize(
    ("config", "command"),
    [
        row(31, "no version means 0.1.0", {"name": "blue"}, "ADD"),
        *(
            row(32, f"version {v!r}", {"name": "blue", "cniVersion": v}, "ADD")
            for v in ("9.9.9", "abc", "", "1.1", "0.3.0", "1.1.0 ")
        ),
        row(34, "CHECK before 0.4.0", MINIMAL | {"cniVersion": "0.3.1", "prevResult": PREVIOUS}, "CHECK"),
        *(row(35, f"GC before 1.1.0: {v}", MINIMAL | {"cniVersion": v}, "GC") for v in ("0.3.1", "0.4.0", "1.0.0")),
        *(row(35, f"STATUS before 1.1.0: {v}", MINIMAL | {"cniVersion": v}, "STATUS") for v in ("0.3.1", "0.4.0", "1.0.0")),
        row(8, "DEL of a version that we never served", MINIMAL | {"cniVersion": "0.2.0"}, "DEL"),
    ],
)
def test_a_version_that_is_not_served_is_code_1(config: object, command: str) -> None:
    error = refusal(config, CNI_COMMAND=command)
    assert error.code == 1
    assert "cniVersion" in error.details


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_every_supported_version_is_understood(version: str, command: str) -> None:
    """Points 28, 36."""
    assert parse(MINIMAL | {"cniVersion": version}, CNI_COMMAND=command).version == version


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (stdin({"cniVersion": "0.4.0", "name": "blue", "mtu": "x"}), "0.4.0"),
        (stdin({"cniVersion": "9.9.9", "name": "blue"}), "1.0.0"),
        (stdin({"cniVersion": 5}), "1.0.0"),
        (b"", "1.0.0"),
        (b"[" * 100000, "1.0.0"),
    ],
)
def test_an_error_document_carries_the_calls_own_version_if_it_is_one_of_ours(data: bytes, version: str) -> None:
    """Point 6."""
    assert messages.version_of(data) == version


# -- configuration --

HEAD = b'{"cniVersion":"1.1.0","name":"blue",'


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "GC", "STATUS"])
@pytest.mark.parametrize(
    "data",
    [
        row(13, "nothing", b""),
        row(13, "half a document", b'{"cniVersion":"1.1.0"'),
        row(13, "text", b"hello"),
        row(13, "two documents", stdin(MINIMAL) * 2),
        row(13, "not a number", HEAD + b'"mtu":NaN}'),
        row(13, "a NUL", b"\0"),
        row(13, "a byte order mark", b"\xef\xbb\xbf" + stdin(MINIMAL)),
        row(13, "not UTF-8", b'{"cniVersion":"1.1.0","name":"\xff"}'),
        row(13, "half a character", rb'{"cniVersion":"1.1.0","name":"\ud800"}'),
        row(13, "a control character", b'{"cniVersion":"1.1.0","name":"a\x01"}'),
        row(13, "nested without end", HEAD + b'"x":' + b'{"a":[' * 100000),
    ],
)
def test_what_is_not_json_is_code_6(data: bytes, command: str) -> None:
    assert refusal(data, CNI_COMMAND=command).code == 6


@pytest.mark.parametrize(
    ("config", "path"),
    [
        row(14, "a list", [], ""),
        row(14, "null", None, ""),
        row(14, "the version is a number", {"cniVersion": 1, "name": "blue"}, "cniVersion"),
        row(22, "no name", {"cniVersion": "1.1.0"}, "name"),
        row(22, "an empty name", MINIMAL | {"name": ""}, "name"),
        row(22, "a name that is a path", MINIMAL | {"name": "../blue"}, "name"),
        row(22, "a name that is a number", MINIMAL | {"name": 5}, "name"),
        row(22, "a name without end", MINIMAL | {"name": "x" * 300}, "name"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "GC", "STATUS"])
def test_a_configuration_without_its_head_is_code_7(config: object, path: str, command: str) -> None:
    error = refusal(config, CNI_COMMAND=command)
    assert error.code == 7
    assert path in str(error)


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        row(14, "wiring", "wiring", "tunnel", "wiring"),
        row(14, "a bridge that is no name", "bridge", "a/b", "bridge"),
        row(14, "a bridge that is a number", "bridge", 5, "bridge"),
        row(14, "mtu is text", "mtu", "1500", "mtu"),
        row(14, "mtu is true", "mtu", True, "mtu"),
        row(14, "mtu is a fraction", "mtu", 1500.5, "mtu"),
        row(14, "mtu is small", "mtu", 100, "mtu"),
        row(14, "mtu is negative", "mtu", -1, "mtu"),
        row(14, "mtu is huge", "mtu", 2**80, "mtu"),
        row(14, "hairpinMode", "hairpinMode", 1, "hairpinMode"),
        row(14, "a pool's name", "ipv4Pools", ["Blue!"], "ipv4Pools"),
        row(14, "pools is a text", "pools", "blue", "pools"),
        row(14, "pools and ipv4Pools", "pools", ["blue"], "pools"),
        row(14, "ipMasq", "ipMasq", "yes", "ipMasq"),
        row(14, "ipam", "ipam", "host-local", "ipam"),
        row(80, "nameservers", "dns", {"nameservers": "10.0.0.1"}, "dns.nameservers"),
        row(78, "labels of numbers", "args", {"cni": {"labels": {"a": 1}}}, "args.cni.labels"),
        row(78, "labels that are none", "args", {"cni": {"labels": {"a b": "c"}}}, "args.cni.labels"),
        row(78, "labels without value", "args", {"cni": {"labels": [{"key": "a"}]}}, "args.cni.labels[0]"),
        row(78, "ips in args", "args", {"cni": {"ips": ["10.0.0.300"]}}, "args.cni.ips"),
        row(77, "ips that are none", "runtimeConfig", {"ips": ["x"]}, "runtimeConfig.ips"),
        row(77, "ips with a zone", "runtimeConfig", {"ips": ["fd00::1%eth0"]}, "runtimeConfig.ips"),
        row(77, "a multicast address", "runtimeConfig", {"ips": ["224.0.0.1"]}, "runtimeConfig.ips"),
        row(77, "no pod has the loopback address", "runtimeConfig", {"ips": ["127.0.0.1/8"]}, "runtimeConfig.ips"),
        row(77, "a length that is none", "runtimeConfig", {"ips": ["10.0.0.1/33"]}, "runtimeConfig.ips"),
        row(77, "ips is a text", "runtimeConfig", {"ips": "10.0.0.1"}, "runtimeConfig.ips"),
        row(77, "a group MAC", "runtimeConfig", {"mac": "ff:ff:ff:ff:ff:ff"}, "runtimeConfig.mac"),
        row(
            77,
            "ports are text",
            "runtimeConfig",
            {"portMappings": [{"hostPort": "80"}]},
            "runtimeConfig.portMappings[0].hostPort",
        ),
        row(
            77,
            "bandwidth is text",
            "runtimeConfig",
            {"bandwidth": {"ingressRate": "1M"}},
            "runtimeConfig.bandwidth.ingressRate",
        ),
        row(79, "dns", "runtimeConfig", {"dns": {"Servers": 5}}, "runtimeConfig.dns.Servers"),
        row(36, "prevResult", "prevResult", [], "prevResult"),
        row(36, "an address without length", "prevResult", {"ips": [{"address": "10.0.0.1"}]}, "prevResult.ips[0].address"),
        row(36, "an index too high", "prevResult", {"ips": [{"address": "10.0.0.1/8", "interface": 0}]}, "ips[0].interface"),
    ],
)
def test_a_wrong_type_or_value_is_code_7_with_its_place(key: str, value: object, path: str) -> None:
    error = refusal(MINIMAL | {key: value} | ({"ipv4Pools": ["x"]} if key == "pools" else {}))
    assert error.code == 7
    assert path in str(error)
    assert "$" not in str(error)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        row(9, "ipMasq", "ipMasq", True, "ipMasq: true"),
        row(9, "hairpinMode", "hairpinMode", False, "hairpinMode: false"),
        row(9, "another plugin's addresses", "ipam", {"type": "host-local"}, "ipam.type: 'host-local'"),
        row(
            9,
            "limits for some destinations only",
            "runtimeConfig",
            {"bandwidth": {"ingressRate": 1000, "unshapedSubnets": ["10.0.0.0/8"]}},
            'bandwidth.unshapedSubnets: ["10.0.0.0/8"]',
        ),
        row(9, "address ranges", "runtimeConfig", {"ipRanges": [[{"subnet": "10.0.0.0/8"}]]}, 'ipRanges: [[{"subnet"'),
        row(9, "aliases", "runtimeConfig", {"aliases": ["db"]}, 'aliases: ["db"]'),
        row(9, "a device", "runtimeConfig", {"deviceID": "0000:01:00.0"}, "deviceID: '0000"),
        row(
            9,
            "two addresses of a family",
            "runtimeConfig",
            {"ips": ["10.0.0.1", "10.0.0.2"]},
            "runtimeConfig.ips: 10.0.0.1, 10.0.0.2",
        ),
    ],
)
def test_what_is_asked_for_and_not_served_is_code_2_with_key_and_value(key: str, value: object, named: str) -> None:
    error = refusal(MINIMAL | {key: value})
    assert error.code == 2
    assert named in str(error)


@pytest.mark.parametrize(
    "extra",
    [
        row(25, "unknown keys", {"foo": {"bar": [1, None]}, "isGateway": True}),
        row(26, "capabilities", {"capabilities": {"portMappings": True}}),
        row(77, "nothing is asked for", {"runtimeConfig": {"portMappings": None, "bandwidth": None, "ips": None, "dns": None}}),
        row(77, "empty lists", {"runtimeConfig": {"portMappings": [], "ips": [], "ipRanges": [], "aliases": []}}),
        row(
            77,
            "a container's port without one of the host",
            {"runtimeConfig": {"portMappings": [{"containerPort": 80, "protocol": "TCP"}]}},
        ),
        row(
            77,
            "no limit",
            {"runtimeConfig": {"bandwidth": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}}},
        ),
        row(77, "the cgroup is for others", {"runtimeConfig": {"cgroupPath": "/kubepods/x"}}),
        row(78, "args of other plugins", {"args": {"tuning": 5, "cni": None}}),
        row(80, "ipam of ours", {"ipam": {"type": "netloom"}, "ipMasq": False}),
        row(36, "no previous result", {"prevResult": None}),
    ],
)
def test_what_changes_nothing_is_passed_over(extra: dict[str, object]) -> None:
    assert parse(MINIMAL | extra) == parse(MINIMAL)


def test_defaults_are_a_routed_pod_with_any_address() -> None:
    assert add(CNI_ARGS="") == Add(
        version="1.1.0",
        key=AttachmentKey("blue", "6f3c0d", "eth0"),
        sandbox=ENVIRONMENT["CNI_NETNS"],
        netns=NETNS,
        wiring=Wiring.ROUTED,
        bridge="loom.br0",
        mtu=0,
        pools={},
        addresses=(),
        mac=None,
        namespace="default",
        pod="",
        uid="",
        labels={},
        dns=Dns(),
        previous=None,
    )


def test_everything_that_can_be_asked_for_arrives() -> None:
    request = add(CONFIG)
    assert (request.wiring, request.bridge, request.mtu) == (Wiring.BRIDGE, "blue.br0", 1400)
    assert request.pools == {4: ("blue",), 6: ("blue-v6",)}
    assert request.addresses == (parse_address("10.1.0.8"), parse_address("fd00::8"))
    assert request.mac == "0a:58:0a:01:00:08"
    assert request.labels == {"app": "web"}
    assert request.dns == Dns(nameservers=("10.0.0.10",))
    assert request.previous is not None
    assert [i.name for i in request.previous.interfaces] == ["veth1", "eth0"]


@pytest.mark.parametrize(
    ("config", "pools"),
    [
        ({}, {}),
        ({"pools": ["a", "b"]}, {4: ("a", "b"), 6: ("a", "b")}),
        ({"ipv4Pools": ["a"]}, {4: ("a",)}),
        ({"ipv4Pools": ["a"], "ipv6Pools": []}, {4: ("a",), 6: ()}),
    ],
)
def test_a_family_without_a_list_takes_any_pool_and_one_with_an_empty_list_none(
    config: dict[str, object], pools: object
) -> None:
    assert add(MINIMAL | config).pools == pools


@pytest.mark.parametrize(
    "labels", [{"app": "web", "tier": "1"}, [{"key": "app", "value": "web"}, {"key": "tier", "value": "1"}]]
)
def test_labels_are_a_mapping_or_a_list(labels: object) -> None:
    """Point 78."""
    assert add(MINIMAL | {"args": {"cni": {"labels": labels}}}).labels == {"app": "web", "tier": "1"}


def test_the_runtime_is_heard_before_the_arguments_and_these_before_the_environment() -> None:
    """Points 77, 78: for addresses and for the MAC."""
    runtime = {"runtimeConfig": {"ips": ["10.0.0.1/24"], "mac": "0a:00:00:00:00:01"}}
    args = {"args": {"cni": {"ips": ["10.0.0.2"], "mac": "0A-00-00-00-00-02"}}}
    given = "IP=10.0.0.3/8,fd00::3;MAC=0a:00:00:00:00:03"
    found = []
    for config in (MINIMAL | runtime | args, MINIMAL | args, MINIMAL):
        request = add(config, CNI_ARGS=given)
        found.append((*map(str, request.addresses), request.mac))
    assert found == [
        ("10.0.0.1", "0a:00:00:00:00:01"),
        ("10.0.0.2", "0a:00:00:00:00:02"),
        ("10.0.0.3", "fd00::3", "0a:00:00:00:00:03"),
    ]


@pytest.mark.parametrize(
    "dns",
    [
        row(79, "CONVENTIONS.md", {"servers": ["10.0.0.10"], "searches": ["a", "b"], "options": ["ndots:5"]}),
        row(79, "containerd", {"Servers": ["10.0.0.10"], "Searches": ["a", "b"], "Options": ["ndots:5"]}),
    ],
)
def test_dns_of_the_runtime_is_understood_in_both_spellings(dns: object) -> None:
    expected = Dns(nameservers=("10.0.0.10",), search=("a", "b"), options=("ndots:5",))
    assert add(MINIMAL | {"runtimeConfig": {"dns": dns}, "dns": {"domain": "x"}}).dns == expected


def test_dns_of_the_configuration_stands_where_the_runtime_names_none() -> None:
    """Point 44."""
    nothing = {"dns": {"Servers": None, "Searches": None, "Options": None}}
    assert add(MINIMAL | {"runtimeConfig": nothing, "dns": {"domain": "x"}}).dns == Dns(domain="x")


def test_check_without_a_previous_result_is_refused() -> None:
    """Point 59."""
    error = refusal(CNI_COMMAND="CHECK")
    assert error.code == 7
    assert "prevResult" in str(error)


def test_check_reads_what_later_plugins_made_of_the_result() -> None:
    """Point 62: unknown keys and further interfaces do not disturb."""
    later = PREVIOUS | {"extra": 1, "interfaces": [*PREVIOUS["interfaces"], {"name": "ifb0", "mac": "", "new": True}]}
    request = parse(MINIMAL | {"prevResult": later}, CNI_COMMAND="CHECK")
    assert isinstance(request, Check)
    assert [i.name for i in request.previous.interfaces] == ["veth1", "eth0", "ifb0"]


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        row(70, "no key", {}, None),
        row(70, "null", {"cni.dev/valid-attachments": None}, None),
        row(70, "an empty list", {"cni.dev/valid-attachments": []}, frozenset()),
        row(65, "a list", {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}, frozenset({("a", "eth0")})),
        row(
            65, "the key's former name", {"cni.dev/attachments": [{"containerID": "a", "ifname": "b"}]}, frozenset({("a", "b")})
        ),
        row(
            69,
            "IDs are compared, not judged",
            {"cni.dev/valid-attachments": [{"containerID": "?/", "ifname": ""}]},
            frozenset({("?/", "")}),
        ),
    ],
)
def test_gc_knows_an_absent_list_from_an_empty_one(config: dict[str, object], valid: object) -> None:
    assert parse(MINIMAL | config, CNI_COMMAND="GC") == Collect("1.1.0", "blue", valid)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [{}, "a", [5], [{"containerID": "a"}], [{"containerID": 1, "ifname": "b"}]])
def test_gc_with_a_list_that_is_none_collects_nothing(value: object) -> None:
    """Point 69."""
    assert refusal(MINIMAL | {"cni.dev/valid-attachments": value}, CNI_COMMAND="GC").code == 7
