"""From a call of the runtime to a request that the agent can trust, or to the error that the specification has for it.

    environment, stdin ──parse──▶ Add | Delete | Check | Collect | Status        (or CniError)

Pure: what only the kernel knows (which namespace stands behind CNI_NETNS) is handed in.  Everything else that comes in is
hostile, and every way of being wrong ends in one of these codes (SPEC 1.1.0, section "Error"):

    1  version    2  not served    4  environment    6  not JSON    7  configuration    8  the node's own namespace

The tricky thing is DEL: it must succeed for whatever ADD once got, and for what a runtime has since lost or damaged, so it
looks at the identity of the attachment and at nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import msgspec

from netloom.cni.environment import INVALID_ENVIRONMENT, blame, check_variables, parse_args
from netloom.cni.netconf import Args, CniArgs, GcConfig, Head, NetworkConfig, RuntimeConfig, unserved
from netloom.cni.ports import parse_ports
from netloom.cni.results import FALLBACK_VERSION, VERSIONS, Dns, Result, decode_result
from netloom.errors import CniError
from netloom.ipam.networks import Declared
from netloom.model.addresses import Address, Mac, parse_address, parse_interface, parse_mac
from netloom.model.attachments import AttachmentKey, Bandwidth, NetnsId, PublishedPort, Wiring
from netloom.model.showing import shown
from netloom.model.validation import check_labels, check_network_name

INCOMPATIBLE_VERSION, UNSUPPORTED, UNDECODABLE, INVALID_CONFIG, OWN_NETNS = 1, 2, 6, 7, 8

_SINCE: Mapping[str, str] = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

_REMEMBERED = 4096  # bytes of a document: longer ones are not kept
C = TypeVar("C", bound=Head)


@dataclass(frozen=True, slots=True)
class Add:
    """`sandbox` is CNI_NETNS as given: it is shown, never opened.  `addresses`: asked for, at most one per family, without
    a prefix length, which is the network's.  `pools`: family → names; a family that is missing takes any pool, an empty
    one gets no address.  `mtu` 0: the agent's.  `previous`: of the plugins before us in the chain.  `declared`: the network's own
    pools, where the configuration says them."""

    version: str
    key: AttachmentKey
    sandbox: str
    netns: NetnsId
    wiring: Wiring
    bridge: str
    mtu: int
    pools: Mapping[int, tuple[str, ...]]
    addresses: tuple[Address, ...]
    mac: Mac | None
    namespace: str
    pod: str
    uid: str
    labels: Mapping[str, str]
    dns: Dns
    previous: Result | None
    bandwidth: Bandwidth | None = None
    ports: tuple[PublishedPort, ...] = ()
    declared: Declared | None = None

    @property
    def bridge_used(self) -> str | None:
        """None where the pod is routed."""
        return self.bridge if self.wiring is Wiring.BRIDGE else None


@dataclass(frozen=True, slots=True)
class Check:
    """`previous` is the result of the whole chain: later plugins may have added to it."""

    version: str
    key: AttachmentKey
    sandbox: str
    netns: NetnsId
    previous: Result


@dataclass(frozen=True, slots=True)
class Delete:
    version: str
    key: AttachmentKey


@dataclass(frozen=True, slots=True)
class Collect:
    """GC.  `valid`: (container ID, interface) of what must stay; None: the runtime did not say, which is not the same as none."""

    version: str
    network: str
    valid: frozenset[tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class Status:
    """`wiring`, `pools` and `declared` as in Add: whether this network can take a pod depends on them."""

    version: str
    network: str
    wiring: Wiring
    bridge: str
    pools: Mapping[int, tuple[str, ...]]
    declared: Declared | None = None

    @property
    def bridge_used(self) -> str | None:
        """None where pods are routed."""
        return self.bridge if self.wiring is Wiring.BRIDGE else None


Request = Add | Check | Delete | Collect | Status


def parse(environment: Mapping[str, str], stdin: bytes, netns: NetnsId | None, host: NetnsId | None) -> Request:
    """`netns`: what stands behind CNI_NETNS, None if that cannot be opened or is no network namespace; `host`: the node's own."""
    command = check_variables(environment)
    head = _decode(stdin, Head)
    _check_version(command, head.cni_version)
    try:
        check_network_name(head.name, "name")
    except ValueError as e:
        raise CniError(INVALID_CONFIG, str(e)) from e
    return _PARSERS[command](_Parts(environment, stdin, head, netns, host))


def version_of(stdin: bytes) -> str:
    """The version that an error document should carry: the call's own if it is one of ours."""
    try:
        version = msgspec.json.decode(stdin, type=Head).cni_version
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return FALLBACK_VERSION
    return version if version in VERSIONS else FALLBACK_VERSION


@dataclass(frozen=True, slots=True)
class _Parts:
    """A call whose variables and head have been checked."""

    environment: Mapping[str, str]
    stdin: bytes
    head: Head
    netns: NetnsId | None
    host: NetnsId | None

    @property
    def key(self) -> AttachmentKey:
        return AttachmentKey(self.head.name, self.environment["CNI_CONTAINERID"], self.environment["CNI_IFNAME"])

    def checked_netns(self) -> NetnsId:
        if self.netns is None:
            path = self.environment["CNI_NETNS"]
            raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS: {shown(path)} cannot be opened, or is no network namespace")
        if self.netns == self.host:
            raise CniError(OWN_NETNS, "CNI_NETNS: this is the node's own network namespace")
        return self.netns


def _add(call: _Parts) -> Add:
    config = _served(call.stdin)
    given = parse_args(call.environment.get("CNI_ARGS", ""))
    asked, cni = config.runtime_config or RuntimeConfig(), (config.args or Args()).cni or CniArgs()
    with blame("args.cni.labels", INVALID_CONFIG):
        check_labels(cni.label_mapping(), "labels")
    dns = asked.dns.plain() if asked.dns else Dns()
    return Add(
        version=config.cni_version,
        key=call.key,
        sandbox=call.environment["CNI_NETNS"],
        netns=call.checked_netns(),
        wiring=config.wiring,
        bridge=config.bridge,
        mtu=config.mtu,
        pools=config.pools_by_family(),
        addresses=_addresses(asked, cni, given),
        mac=_mac(asked, cni, given),
        namespace=given.get("K8S_POD_NAMESPACE") or "default",
        pod=given.get("K8S_POD_NAME", ""),
        uid=given.get("K8S_POD_UID", ""),
        labels=cni.label_mapping(),
        dns=dns if dns != Dns() else config.dns,
        previous=_previous(config),
        bandwidth=_bandwidth(asked),
        ports=_ports(asked),
        declared=config.declared(),
    )


def _check(call: _Parts) -> Check:
    previous = _previous(_decode(call.stdin, NetworkConfig))
    if previous is None:
        raise CniError(INVALID_CONFIG, "prevResult: is missing; CHECK compares with it")
    return Check(call.head.cni_version, call.key, call.environment["CNI_NETNS"], call.checked_netns(), previous)


def _delete(call: _Parts) -> Delete:
    return Delete(call.head.cni_version, call.key)


def _collect(call: _Parts) -> Collect:
    config = _decode(call.stdin, GcConfig)
    named = config.valid if config.valid is not None else config.published
    valid = None if named is None else frozenset((name.container_id, name.ifname) for name in named)
    return Collect(config.cni_version, config.name, valid)


def _status(call: _Parts) -> Status:
    config = _served(call.stdin)
    return Status(config.cni_version, config.name, config.wiring, config.bridge, config.pools_by_family(), config.declared())


_PARSERS: Mapping[str, Callable[[_Parts], Request]] = {
    "ADD": _add,
    "CHECK": _check,
    "DEL": _delete,
    "GC": _collect,
    "STATUS": _status,
}


def _check_version(command: str, version: str) -> None:
    since = _SINCE.get(command, VERSIONS[0])
    served = VERSIONS[VERSIONS.index(since) :]
    if version not in served:
        details = f"cniVersion is {shown(version)}; {command} is served in {', '.join(served)}"
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI version", details)


def _ports(asked: RuntimeConfig) -> tuple[PublishedPort, ...]:
    if not asked.port_mappings:
        return ()
    try:
        return parse_ports(asked.port_mappings)
    except ValueError as e:
        raise CniError(INVALID_CONFIG, f"runtimeConfig.portMappings{e}") from e


def _served(stdin: bytes) -> NetworkConfig:
    """Raises CniError where it asks for what we do not do."""
    config = _decode(stdin, NetworkConfig)
    for key, value in unserved(config):
        raise CniError(UNSUPPORTED, f"{key}: {shown(value)} is not supported")
    return config


def _addresses(asked: RuntimeConfig, cni: CniArgs, given: Mapping[str, str]) -> tuple[Address, ...]:
    """The first place that names any address counts."""
    if asked.ips:
        return _parse_addresses(asked.ips, "runtimeConfig.ips", INVALID_CONFIG)
    if cni.ips:
        return _parse_addresses(cni.ips, "args.cni.ips", INVALID_CONFIG)
    if given.get("IP"):
        return _parse_addresses(tuple(given["IP"].split(",")), "CNI_ARGS: IP", INVALID_ENVIRONMENT)
    return ()


def _parse_addresses(texts: tuple[str, ...], where: str, code: int) -> tuple[Address, ...]:
    with blame(where, code):
        found = tuple(_parse_pod_address(text) for text in texts)
    if len({address.version for address in found}) != len(found):
        raise CniError(UNSUPPORTED, f"{where}: {', '.join(texts)[:200]} is not supported: at most one address per family")
    return found


def _parse_pod_address(text: str) -> Address:
    address = parse_address(str(parse_interface(text).ip)) if "/" in text else parse_address(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        raise ValueError(f"{shown(text)} cannot be a pod's address")
    return address


def _mac(asked: RuntimeConfig, cni: CniArgs, given: Mapping[str, str]) -> Mac | None:
    places = (
        (asked.mac, "runtimeConfig.mac", INVALID_CONFIG),
        (cni.mac, "args.cni.mac", INVALID_CONFIG),
        (given.get("MAC"), "CNI_ARGS: MAC", INVALID_ENVIRONMENT),
    )
    for text, where, code in places:
        if text:
            with blame(where, code):
                return parse_mac(text)
    return None


def _bandwidth(asked: RuntimeConfig) -> Bandwidth | None:
    if asked.bandwidth is None:
        return None
    with blame("runtimeConfig.bandwidth", INVALID_CONFIG):
        return asked.bandwidth.plain()


def _previous(config: NetworkConfig) -> Result | None:
    if bytes(config.prev_result) == b"null":
        return None
    with _decoding("prevResult"):
        return decode_result(config.prev_result)


def _decode(stdin: bytes, kind: type[C]) -> C:
    with _decoding():
        return _decode_again(stdin, kind) if len(stdin) <= _REMEMBERED else msgspec.json.decode(stdin, type=kind)


@lru_cache(maxsize=32)
def _decode_again(stdin: bytes, kind: type[C]) -> C:
    """All pods of a network come with the same document, mostly."""
    return msgspec.json.decode(stdin, type=kind)


_PLACE = re.compile(r"(?P<reason>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)


@contextmanager
def _decoding(inside: str = "") -> Iterator[None]:
    """msgspec's errors in ours: code 6 for what is no JSON, 7 with the field's path for what has the wrong shape."""
    try:
        yield
    except msgspec.ValidationError as e:
        match = _PLACE.fullmatch(str(e))
        reason, path = match.group("reason", "path") if match else (str(e), None)
        raise CniError(
            INVALID_CONFIG, ": ".join(part for part in (".".join(filter(None, (inside, path))), reason) if part)
        ) from e
    except (msgspec.DecodeError, UnicodeError) as e:
        raise CniError(UNDECODABLE, "the network configuration is not JSON", str(e)[:200]) from e
    except RecursionError as e:
        raise CniError(UNDECODABLE, "the network configuration is nested too deep") from e
