from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.messages import Ask, Change, Replace


def test_documents_come_out_whole_however_they_came_in() -> None:
    sent = [Ask(peers=True), Replace(tunnels={"10.0.0.0/24": "192.0.2.1"}, senders=["192.0.2.1"], mtu=1472), Change()]
    buffer, found = bytearray(), []
    for byte in b"".join(map(messages.frame, sent)):
        buffer.append(byte)
        while (document := messages.taken(buffer)) is not None:
            found.append(messages.request(document))
    assert found == sent
    assert not buffer


@given(st.binary(max_size=60))
def test_nonsense_is_refused_with_a_reason_or_waited_for(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        while (document := messages.taken(buffer)) is not None:
            messages.request(document)
    except ValueError as e:
        assert str(e)


def test_a_document_that_is_too_long_is_not_waited_for() -> None:
    with pytest.raises(ValueError, match="bytes"):
        messages.taken(bytearray(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("text", ["10.0.0.1/24", "10.0.0.0", "nonsense", "10.0.0.0/33", "fe80::1%eth0/64"])
def test_prefixes_are_exact(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        messages.prefixes({text: "192.0.2.1"})
