from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.validation import (
    check_container_id,
    check_interface_name,
    check_labels,
    check_mac,
    check_name,
    check_object_name,
)


def accepts(check: object, *arguments: object) -> bool:
    try:
        check(*arguments)  # type: ignore[operator]
    except ValueError:
        return False
    return True


@given(st.text(max_size=70))
def test_a_name_is_an_rfc_1123_label(text: str) -> None:
    label = len(text) <= 63 and re.fullmatch("[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]", text) is not None
    assert accepts(check_name, text, "name") == label


@given(st.text(max_size=20) | st.text("abc.-_/:% \n\0é", min_size=0, max_size=17))
def test_an_interface_name_is_what_the_kernel_takes(text: str) -> None:
    """dev_valid_name() in net/core/dev.c; no '%', which is a template there; ASCII alone, because a name is shown on terminals."""
    taken = 0 < len(text.encode()) < 16 and text not in (".", "..", "all", "default") and not re.search(r"[/:%\s\0]", text)
    printable = text.isascii() and text.isprintable()
    assert accepts(check_interface_name, text) == (taken and printable)


@pytest.mark.parametrize("text", ["a", "0a.b_c-D", "x" * 256])
def test_a_container_id_is_what_the_cni_specification_says(text: str) -> None:
    check_container_id(text)


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "a b", "a\n", "../../etc", "x" * 257, "ä"])
def test_other_container_ids_are_refused(text: str) -> None:
    assert not accepts(check_container_id, text)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"a": ""},
        {"app": "web-1.2_3"},
        {"example.org/Name": "X"},
        {"kubernetes.io/metadata.name": "a"},
        {"a" * 63: "b" * 63},
    ],
)
def test_labels_are_kubernetes_labels(labels: dict[str, str]) -> None:
    check_labels(labels)


@pytest.mark.parametrize(
    "labels",
    [
        {"": "a"},
        {"a b": "c"},
        {"/a": "b"},
        {"a/": "b"},
        {"a/b/c": "d"},
        {"a": "b c"},
        {"a": "-"},
        {"a": "x" * 64},
        {"a\n": "b"},
        {"a": "b\n"},
        {"a": "\x1b"},
    ],
)
def test_other_labels_are_refused(labels: dict[str, str]) -> None:
    assert not accepts(check_labels, labels)


@pytest.mark.parametrize("text", ["", "a\n", "A", "a..b/", "x" * 254])
def test_an_object_name_has_no_way_out_of_a_path_or_a_line(text: str) -> None:
    assert not accepts(check_object_name, text)


def test_a_mac_is_written_in_one_way() -> None:
    check_mac("0a:58:0a:f4:00:02", "mac")
    with pytest.raises(ValueError, match=r"spec\.mac: '0A:58:0A:F4:00:02' is not written in lower case"):
        check_mac("0A:58:0A:F4:00:02", "spec.mac")
