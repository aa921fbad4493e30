"""The one validator: names, labels, interface names, MACs.  Whatever comes from a datastore, a runtime or a pod passes here.

Each check raises ValueError that says what was wrong with what, and returns nothing; `within` says it for a parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from netloom.model.addresses import parse_mac
from netloom.model.showing import shown

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}\Z")
_CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,255}\Z")

# The kernel's dev_valid_name() (net/core/dev.c): at most 15 bytes, no slash, colon or white space, not "." or "..".  Beyond that
# `%` asks the kernel to choose a number, and `all` and `default` are not devices in /proc/sys/net/*/conf.
_INTERFACE_NAME = re.compile(r"(?!(?:\.{1,2}|all|default)\Z)[!-$&-.0-9;-~]{1,15}\Z")

_INTERFACE_PATTERN = re.compile(r"[A-Za-z0-9_.@*-]+\Z")
_SECRET_KEY = re.compile(r"(?!\.{1,2}\Z)[-._A-Za-z0-9]{1,253}\Z")


_Text = TypeVar("_Text")
_Parsed = TypeVar("_Parsed")


def within(path: str, parse: Callable[[_Text], _Parsed], value: _Text) -> _Parsed:
    """What is parsed; else says which field is wrong."""
    try:
        return parse(value)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def check_name(text: str, what: str) -> None:
    """RFC 1123 label: a Kubernetes namespace."""
    if not _NAME.match(text):
        raise ValueError(f"{what}: {shown(text)} is not a name (lower case letters, digits and '-', at most 63)")


def check_object_name(text: str, what: str = "metadata.name") -> None:
    """RFC 1123 subdomain: the name of an object."""
    if not _OBJECT_NAME.match(text):
        raise ValueError(f"{what}: {shown(text)} is not a name (lower case letters, digits, '-' and '.', at most 253)")


def check_labels(labels: Mapping[str, str], what: str = "metadata.labels") -> None:
    for key, value in labels.items():
        domain, slash, name = key.rpartition("/")
        if (slash and not _OBJECT_NAME.match(domain)) or not _LABEL_NAME.match(name):
            raise ValueError(f"{what}: {shown(key)} is not a label key")
        if not _LABEL_VALUE.match(value):
            raise ValueError(f"{what}[{key}]: {shown(value)} is not a label value")


def check_interface_name(text: str) -> None:
    if not _INTERFACE_NAME.match(text):
        raise ValueError(f"{shown(text)} is not an interface name (1 to 15 characters, no '/', ':', '%' or white space)")


def check_interface_pattern(text: str, what: str) -> None:
    """A name with `*` for any characters."""
    if not text.strip("*"):
        raise ValueError(f"{what}: {shown(text)} is every interface; name some")
    if not _INTERFACE_NAME.match(text.replace("*", "x")) or not _INTERFACE_PATTERN.match(text):
        raise ValueError(f"{what}: {shown(text)} is no interface's name (letters, digits, '-', '_', '.', '@', and '*' for any)")


def check_secret_key(text: str, what: str) -> None:
    """As Kubernetes has it, and a file's name at that."""
    if not _SECRET_KEY.match(text):
        raise ValueError(f"{what}: {shown(text)} is no key of a Secret (letters, digits, '-', '_' and '.', at most 253)")


def check_container_id(text: str) -> None:
    """CNI SPEC 1.1.0, parameters: alphanumeric first, then alphanumerics, '_', '.', '-'."""
    if not _CONTAINER_ID.match(text):
        raise ValueError(f"{shown(text)} is not a container ID")


def check_network_name(text: str, what: str) -> None:
    """CNI SPEC 1.1.0, section 1: alphanumeric first, then alphanumerics, '_', '.', '-'.  It never becomes a file name here; the
    length is a bound like any other."""
    if not _NETWORK_NAME.match(text):
        raise ValueError(f"{what}: {shown(text)} is not a network's name (letters, digits, '_', '.', '-')")


def check_mac(text: str, what: str) -> None:
    try:
        if parse_mac(text) != text:
            raise ValueError(f"{shown(text)} is not written in lower case with colons")
    except ValueError as e:
        raise ValueError(f"{what}: {e}") from e
