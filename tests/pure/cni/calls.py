"""Calls as a runtime makes them, and as nobody should: the raw material of the CNI tests."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from netloom.model.attachments import NetnsId

NETNS, HOST = NetnsId(4, 4026532500), NetnsId(4, 4026531840)

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "6f3c0d",
    "CNI_NETNS": "/var/run/netns/cni-1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=6f3c0d;K8S_POD_UID=3a-7",
}
PREVIOUS = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "veth1", "mac": "0a:00:00:00:00:01"},
        {"name": "eth0", "mac": "0a:00:00:00:00:02", "sandbox": "/n"},
    ],
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}],
    "dns": {"nameservers": ["10.9.0.1"]},
}
CONFIG = {
    "cniVersion": "1.1.0",
    "name": "blue",
    "type": "netloom",
    "wiring": "bridge",
    "bridge": "blue.br0",
    "mtu": 1400,
    "hairpinMode": True,
    "ipv4Pools": ["blue"],
    "ipv6Pools": ["blue-v6"],
    "dns": {"nameservers": ["10.0.0.10"], "domain": "shop.local", "search": ["local"], "options": ["ndots:2"]},
    "ipam": {"type": "netloom"},
    "ipMasq": False,
    "args": {"cni": {"labels": {"app": "web"}, "ips": ["10.1.0.9"], "mac": "0a:58:0a:01:00:09"}},
    "runtimeConfig": {
        "ips": ["10.1.0.8/24", "fd00::8"],
        "mac": "0a:58:0a:01:00:08",
        "dns": {"Servers": ["10.0.0.10"], "Searches": None, "Options": None},
        "portMappings": [{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 0, "egressRate": 0},
    },
    "prevResult": PREVIOUS,
    "cni.dev/valid-attachments": [{"containerID": "6f3c0d", "ifname": "eth0"}],
    "capabilities": {"ips": True},
}

COMMANDS = ["ADD", "CHECK", "DEL", "GC", "STATUS"]

_PATHS = [
    *((key,) for key in CONFIG),
    *(("runtimeConfig", key) for key in ("ips", "mac", "dns", "portMappings", "bandwidth", "ipRanges", "aliases", "deviceID")),
    *(("args", "cni", key) for key in ("labels", "ips", "mac")),
    *(("prevResult", key) for key in PREVIOUS),
    ("args", "cni"),
    ("dns", "nameservers"),
    ("ipam", "type"),
    ("runtimeConfig", "dns", "Servers"),
    ("runtimeConfig", "ips", 0),
    ("runtimeConfig", "portMappings", 0, "hostPort"),
    ("runtimeConfig", "bandwidth", "ingressRate"),
    ("prevResult", "interfaces", 0, "mtu"),
    ("prevResult", "ips", 0, "address"),
    ("prevResult", "ips", 0, "interface"),
    ("prevResult", "routes", 0, "dst"),
    ("cni.dev/valid-attachments", 0, "containerID"),
    ("unknown",),
]

_ODD_TEXTS = [
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "-x",
        "../../etc/passwd",
        "a b",
        "eth0\n",
        "%d",
        "a;b=c",
        "=",
        ";",
        "K=V",
        "IgnoreUnknown=maybe",
    ),
    *(
        "K8S_POD_NAME=../x",
        "K8S_POD_NAMESPACE=A_B",
        "IP=10.0.0.1,10.0.0.2",
        "IP=::1",
        "MAC=ff:ff:ff:ff:ff:ff",
        "$(reboot)",
        "`id`",
    ),
    *(
        "10.0.0.1",
        "10.0.0.1/33",
        "::ffff:1.2.3.4",
        "fe80::1%eth0",
        "999.1.1.1",
        "0.0.0.0/0",
        "٣",
        "é",
        "\u202e",
        "\x01\x1b[31m",
    ),
    *(
        '"',
        "\\",
        "{}",
        "null",
        "0.3.1",
        "0.4.0",
        "1.0.0",
        "2.0.0",
        "1.1.0 ",
        "x" * 300,
        "x" * 70000,
        "routed",
        "ADD",
        "GC",
        "CHECK",
    ),
]
_odd_values = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 1.5, 1500, 2**31, 2**63, 2**64, -(2**70), 1e308, [], {}, [[]], [None], [{}], {"": ""}),
        *(
            ["10.0.0.1"],
            ["x"],
            {"a": 1},
            {"key": "a", "value": "b"},
            [{"key": "a"}],
            [{"key": "a", "value": "b"}],
            [1, "2", None],
        ),
        *_ODD_TEXTS,
    ]
)
_texts = st.sampled_from(_ODD_TEXTS) | st.text(st.characters(exclude_characters="\0"), max_size=20)
_variables = st.one_of(
    st.sampled_from(_ODD_TEXTS),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.just("\udcff\udc80"),  # bytes that are no UTF-8, as Python has them
)
_NESTED = b'{"cniVersion":"1.1.0","name":"blue","%s":' + b'{"a":[' * 3000


def stdin(config: object) -> bytes:
    return json.dumps(config).encode()


def _put(document: Any, path: tuple[str | int, ...], value: object) -> None:
    """Sets a place inside a document; a path that does not exist there (any more) is left alone."""
    try:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = copy.deepcopy(value)
    except (KeyError, IndexError, TypeError):
        return


@st.composite
def hostile_calls(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Environment and stdin: a call that works, with up to three things wrong.  Variables have no NUL, so a shell could send it."""
    environment = ENVIRONMENT | {"CNI_COMMAND": draw(st.sampled_from(COMMANDS))}
    config = json.loads(json.dumps(CONFIG))
    for kind in draw(st.lists(st.sampled_from(["variable", "gone", "value", "value", "value", "version"]), max_size=3)):
        if kind == "variable":
            environment[draw(st.sampled_from(sorted(ENVIRONMENT)))] = draw(_variables)
        elif kind == "gone":
            environment.pop(draw(st.sampled_from(sorted(ENVIRONMENT))), None)
        elif kind == "version":
            config["cniVersion"] = draw(st.sampled_from(["0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.2.0"]))
        else:
            _put(config, draw(st.sampled_from(_PATHS)), draw(_odd_values | _texts))
    return environment, draw(st.sampled_from(_BYTES))(stdin(config))


_BYTES = [
    *[lambda text: text] * 8,
    lambda text: text[: len(text) // 2],
    lambda text: text.replace(b"1400", b"NaN"),
    lambda text: text.replace(b"blue", b"\xff\xfe"),
    lambda text: text.replace(b"blue", rb"\ud800"),
    lambda text: text.replace(b"blue", rb"\u0000\u001f"),
    lambda text: text.replace(b"{", b'{"name":5,"name":"green",', 1),
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text + text,
    lambda text: b"[" + text + b"]",
    lambda text: text[:-1] + b',"x":"' + b"y" * 200000 + b'"}',
    lambda text: _NESTED % b"unknown",
    lambda text: _NESTED % b"prevResult",
    lambda text: _NESTED[:-1] % b"runtimeConfig",
    lambda text: b"",
    lambda text: b"\0",
]
