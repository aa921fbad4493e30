"""The variables CNI_* of a call: which command needs which, what may stand in them, and the pairs in CNI_ARGS.

All that is wrong here is code 4 of the specification, whose message has to name the variables: all of them, not the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from netloom.errors import CniError
from netloom.model.showing import shown
from netloom.model.validation import check_container_id, check_interface_name, check_name

INVALID_ENVIRONMENT = 4

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
}

_ARGS = {"IgnoreUnknown", "IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"}

# Wider than Kubernetes: podman sends the container's name.
_POD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,252}\Z")


def check_variables(environment: Mapping[str, str]) -> str:
    """The command, if it is one that reaches an agent and has what it needs.  Names every variable that is missing, or else
    every one that is wrong."""
    command = environment.get("CNI_COMMAND", "")
    if command not in _REQUIRED:
        known = ", ".join(_REQUIRED)
        reason = f"CNI_COMMAND: {shown(command)} is none of {known}" if command else "CNI_COMMAND is missing"
        raise CniError(INVALID_ENVIRONMENT, reason)
    required = _REQUIRED[command]
    missing = [name for name in required if not environment.get(name)]
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    wrong = []
    for name in required:
        try:
            _CHECKS[name](environment[name])
        except ValueError as e:
            wrong.append(f"{name}: {e}")
    if wrong:
        raise CniError(INVALID_ENVIRONMENT, "; ".join(wrong))
    return command


def _check_text(text: str) -> None:
    if not text.isascii() and text.encode(errors="replace").decode() != text:
        raise ValueError("is not UTF-8")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "CNI_CONTAINERID": check_container_id,
    "CNI_IFNAME": check_interface_name,
    "CNI_NETNS": _check_text,
    "CNI_PATH": lambda path: None,  # no plugin is called from here
}


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS, `KEY=VALUE;KEY=VALUE`.  A key that we do not know is an error unless IgnoreUnknown says otherwise."""
    with blame("CNI_ARGS", INVALID_ENVIRONMENT):
        given = _parse_pairs(text)
        ignored, unknown = _ignores_unknown(given), sorted(given.keys() - _ARGS)
        if unknown and not ignored:
            raise ValueError(f"unknown: {shown(', '.join(unknown))} (IgnoreUnknown=1 passes over them)")
        if given.get("K8S_POD_NAMESPACE"):
            check_name(given["K8S_POD_NAMESPACE"], "K8S_POD_NAMESPACE")
        for key in ("K8S_POD_NAME", "K8S_POD_UID"):
            if given.get(key) and not _POD.match(given[key]):
                raise ValueError(f"{key}={shown(given[key])} is not a name")
    return given


def _parse_pairs(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value:
            raise ValueError(f"{shown(pair)} is not KEY=VALUE")
        given[key] = value
    return given


def _ignores_unknown(given: Mapping[str, str]) -> bool:
    text = given.get("IgnoreUnknown", "0")
    if text.lower() not in ("0", "1", "false", "true"):
        raise ValueError(f"IgnoreUnknown={shown(text)} is neither 1 nor 0")
    return text.lower() in ("1", "true")


@contextmanager
def blame(what: str, code: int) -> Iterator[None]:
    """A ValueError inside becomes a CniError that says of what it is."""
    try:
        yield
    except ValueError as e:
        raise CniError(code, f"{what}: {e}"[:500]) from e
