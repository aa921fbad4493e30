from __future__ import annotations

import json
import os

from hypothesis import HealthCheck, given, settings

from netloom.cni import messages
from netloom.cni.results import encode_error
from netloom.errors import CniError
from tests.pure.cni.calls import COMMANDS, HOST, NETNS, hostile_calls

DOCUMENTS = 20_000 if os.environ.get("NETLOOM_TEST_LONG") else 2_000  # each with every command: five times as many calls


@settings(max_examples=DOCUMENTS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(hostile_calls())
def test_every_call_is_a_request_or_an_error_of_the_specification(call: tuple[dict[str, str], bytes]) -> None:
    environment, stdin = call
    for command in (environment.get("CNI_COMMAND", ""), *COMMANDS):
        try:
            request = messages.parse(environment | {"CNI_COMMAND": command}, stdin, NETNS, HOST)
        except CniError as error:
            check_error(error, stdin)
        else:
            assert isinstance(request, messages.Request)
            if isinstance(request, messages.Add):
                check_deletion(request, environment, stdin)


def check_error(error: CniError, stdin: bytes) -> None:
    assert error.code in {1, 2, 4, 6, 7}
    text = encode_error(error, messages.version_of(stdin))
    document = json.loads(text)
    assert document["code"] == error.code
    assert document["msg"]
    assert len(text) < 8000


def check_deletion(added: messages.Add, environment: dict[str, str], stdin: bytes) -> None:
    """Point 52: if the ADD was understood, the DEL is, with the namespace gone and CNI_ARGS lost."""
    lost = {"CNI_COMMAND": "DEL", "CNI_ARGS": "", "CNI_NETNS": ""}
    assert messages.parse(environment | lost, stdin, None, HOST) == messages.Delete(added.version, added.key)
