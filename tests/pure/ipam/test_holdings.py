"""Who publishes which port, as the sum of the records."""

from __future__ import annotations

import ipaddress

import msgspec

from netloom.ipam.holdings import Gone, Hold, Holdings, Mark
from netloom.model.attachments import Attachment, PublishedPort, State
from netloom.model.resources import dec_hook
from tests.pure.ipam.making import attachment


def pod(number: int, *ports: PublishedPort) -> Attachment:
    return msgspec.structs.replace(attachment(f"pod-{number}", number, f"10.0.0.{number}/32"), ports=ports)


def whose(holdings: Holdings, protocol: str, port: int) -> list[int]:
    return sorted(one.sequence for one in holdings.publishers(protocol, port))


def test_a_port_is_held_from_the_intent_until_the_pod_is_gone() -> None:
    one, other = PublishedPort("tcp", 80, 8080), PublishedPort("tcp", 80, 8080, ipaddress.ip_address("127.0.0.1"))
    holdings = Holdings()
    for record in (Hold(pod(1, one, PublishedPort("udp", 53, 53))), Hold(pod(2, other)), Hold(pod(3))):
        holdings.apply(record)
    assert [whose(holdings, *key) for key in (("tcp", 80), ("udp", 53), ("tcp", 53))] == [[1, 2], [1], []]
    holdings.apply(Mark(1, State.READY))
    holdings.apply(Mark(1, State.LEAVING))
    assert whose(holdings, "tcp", 80) == [1, 2]
    assert holdings.publishers("udp", 53)[0].state is State.LEAVING
    holdings.apply(Gone(1, 5.0))
    assert [whose(holdings, *key) for key in (("tcp", 80), ("udp", 53))] == [[2], []]
    holdings.apply(Gone(2, 6.0))
    assert whose(holdings, "tcp", 80) == []


def test_a_journal_written_before_there_were_ports_is_read() -> None:
    written = msgspec.to_builtins(pod(1), enc_hook=str)
    del written["ports"]
    assert msgspec.convert(written, Attachment, dec_hook=dec_hook) == pod(1)
