"""What goes out: results, error documents, the VERSION document.  And `prevResult`, which is a result that comes in.

One value (`Result`) stands for every version of the specification; `encode_result` writes it as one version has it:

    ips[].version                                          required before 1.0.0, absent since
    interfaces[].mtu, .socketPath, .pciID                  since 1.1.0
    routes[].mtu, .advmss, .priority, .table, .scope       since 1.1.0

Source: CNI SPEC, section "Success" ("Result types"), at the tags of those versions.
"""

from __future__ import annotations

import msgspec

from netloom.errors import CniError
from netloom.model.addresses import Address, Interface, parse_interface
from netloom.model.attachments import Attachment
from netloom.model.resources import dec_hook

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Supported versions of the specification, oldest first."""

FALLBACK_VERSION = "1.0.0"
"""Of a document that answers a call whose own version is not known, or not ours."""

_TEXT_LIMIT = 1000  # characters of a message: an error names a value, it does not repeat a document


class _Part(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    pass


class ResultInterface(_Part, frozen=True):
    """`sandbox` is CNI_NETNS as the runtime wrote it for an interface inside, and empty for one on the host."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = msgspec.field(default="", name="pciID")


class ResultAddress(_Part, frozen=True):
    """`interface` is an index into the result's interfaces."""

    address: Interface
    version: str = ""
    gateway: Address | None = None
    interface: int | None = None


class ResultRoute(_Part, frozen=True):
    """`dst` may carry host bits: other plugins write it so."""

    dst: Interface
    gw: Address | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


class Dns(_Part, frozen=True):
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(_Part, frozen=True):
    interfaces: tuple[ResultInterface, ...] = ()
    ips: tuple[ResultAddress, ...] = ()
    routes: tuple[ResultRoute, ...] = ()
    dns: Dns = Dns()

    def __post_init__(self) -> None:
        for i, entry in enumerate(self.ips):
            if entry.interface is not None and not 0 <= entry.interface < len(self.interfaces):
                raise ValueError(f"ips[{i}].interface: there is no interface {entry.interface}")


_DEFAULT_ROUTE = {4: parse_interface("0.0.0.0/0"), 6: parse_interface("::/0")}

_encoder = msgspec.json.Encoder(enc_hook=str)
_result_decoder = msgspec.json.Decoder(Result, dec_hook=dec_hook)


def decode_result(document: bytes) -> Result:
    """A `prevResult` of any supported version.  Raises what msgspec raises."""
    return _result_decoder.decode(document)


def result(attachment: Attachment, sandbox: str, dns: Dns, previous: Result | None) -> Result:
    """What ADD answers for `attachment`; what the plugins before us in the chain said stays in front, unchanged."""
    before = previous or Result()
    host = ResultInterface(attachment.host_interface, attachment.host_mac, attachment.mtu)
    inside = ResultInterface(attachment.key.interface, attachment.mac, attachment.mtu, sandbox)
    gateways = {gateway.version: gateway for gateway in attachment.gateways if attachment.leads_out}
    index = len(before.interfaces) + 1
    return Result(
        interfaces=(*before.interfaces, host, inside),
        ips=before.ips
        + tuple(ResultAddress(a, gateway=gateways.get(a.version), interface=index) for a in attachment.addresses),
        routes=before.routes
        + tuple(
            ResultRoute(_DEFAULT_ROUTE[a.version], gateways[a.version])
            for a in attachment.addresses
            if a.version in gateways and a.version not in attachment.secondary
        ),
        dns=dns if dns != Dns() else before.dns,
    )


def encode_result(result: Result, version: str) -> bytes:
    """The result as `version` has it."""
    interfaces, routes = result.interfaces, result.routes
    if VERSIONS.index(version) < VERSIONS.index("1.1.0"):
        interfaces = tuple(ResultInterface(i.name, i.mac, sandbox=i.sandbox) for i in interfaces)
        routes = tuple(ResultRoute(r.dst, r.gw) for r in routes)
    has_family = VERSIONS.index(version) < VERSIONS.index("1.0.0")
    ips = tuple(
        ResultAddress(i.address, str(i.address.version) if has_family else "", i.gateway, i.interface) for i in result.ips
    )
    fields = _encoder.encode(Result(interfaces, ips, routes, result.dns))
    return b'{"cniVersion":"%b"%b' % (version.encode(), b"," + fields[1:] if fields != b"{}" else b"}")


def encode_error(error: CniError, version: str) -> bytes:
    body = {"code": error.code, "msg": _clip(str(error))}
    if error.details:
        body["details"] = _clip(error.details)
    return _document(version, body)


def encode_versions(version: str) -> bytes:
    """The answer to VERSION; `version` is the one that was asked with."""
    return _document(version, {"supportedVersions": list(VERSIONS)})


def _clip(text: str) -> str:
    text = text.encode(errors="replace").decode()  # a lone surrogate cannot be written
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…"


def _document(version: str, body: dict[str, object]) -> bytes:
    return _encoder.encode({"cniVersion": version} | body)
