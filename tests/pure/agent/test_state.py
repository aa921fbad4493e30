from __future__ import annotations

import json

import msgspec
import pytest

from netloom.agent.state import decode, encode
from tests.pure.cli.samples import STATE


def test_the_document_survives_json() -> None:
    assert decode(encode(STATE)) == STATE


def test_the_document_says_what_it_is_and_its_times_are_in_utc() -> None:
    document = json.loads(encode(STATE))
    assert (document["apiVersion"], document["kind"]) == ("netloom.io/v1", "AgentState")
    assert document["started"].endswith("Z")


def test_what_an_earlier_agent_does_not_say_has_a_default() -> None:
    least = {"kind": "AgentState", "node": "a", "version": "0", "pid": 1, "started": "2024-01-01T00:00:00Z", "ready": False}
    found = decode(json.dumps(least).encode())
    assert (found.node, found.ready, found.routes, found.last_pass) == ("a", False, (), None)


@pytest.mark.parametrize("field", ["node", "version", "pid", "started", "ready"])
def test_the_document_needs_the_fields_that_say_whose_it_is(field: str) -> None:
    document = json.loads(encode(STATE))
    del document[field]
    with pytest.raises(msgspec.ValidationError, match=field):
        decode(json.dumps(document).encode())


def test_an_address_that_is_none_is_refused() -> None:
    document = msgspec.to_builtins(STATE, enc_hook=str)
    document["blocks"][0]["cidr"] = "10.0.0.1/8"
    with pytest.raises(msgspec.ValidationError, match=r"blocks\[0\]\.cidr"):
        decode(json.dumps(document).encode())
