"""What is wrong with a session, in words.  That BIRD says these things: tests/kernel/bgp."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from netloom.bgp.status import Channel, Peer
from netloom.bgp.wording import trouble
from netloom.model.routing import OtherEnd, Secret, Session

SESSION = Session("peer_tor", "BGPPeer tor", ip_address("192.0.2.254"), 65000, 64512, (4,), hold_time=30, limit=100)
DOWN = Peer("peer_tor", "Active", since=1000.0)
LATER = 2000.0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Received: Bad peer AS", "refused: they expect another AS, we send 64512"),
        ("BGP Error: Bad peer AS", "refused by us: they send another AS, we expect 65000"),
        ("BGP Error: Hold timer expired", "they said nothing for 30 s, the hold time: they, or the way there, are down"),
        (
            "Received: Hold timer expired",
            "closed by them: they heard nothing from us for the hold time; do large packets come through?",
        ),
        ("Received: Administrative shutdown", "closed by them: their administrator has shut it down"),
        ("Received: Connection rejected", "refused: they know no peer with our address"),
        ("Received: Maximum number of prefixes reached", "closed by them: we announce more prefixes than they take"),
        ("Received: Something new", "closed by them: Something new"),
        ("Socket: Connection refused", "nobody listens on 192.0.2.254 port 179: is BGP running there, and does it know us?"),
        ("Socket: No route to host", "there is no way to 192.0.2.254"),
        (
            "Automatic shutdown: Route limit exceeded",
            "closed here: more than 100 prefixes came; look at what they announce, or raise the limit",
        ),
        ("Error: Neighbor lost", "192.0.2.254 is on no link of this node: it cannot be a direct neighbour"),
        ("Error: BFD session down", "BFD hears nothing from 192.0.2.254"),
        ("Error: Something else", "Something else"),
    ],
)
def test_an_error_is_said_in_words(error: str, words: str) -> None:
    assert trouble(SESSION, replace(DOWN, error=error), LATER) == words


def test_of_a_node_it_is_said_which_as_it_expects_and_sends() -> None:
    session = replace(SESSION, other_end=OtherEnd("node-b", 65002, 64513, "BGPPeer to-a"))
    said = "refused: they expect AS 64513 (BGPPeer to-a on node node-b), we send 64512"
    assert trouble(session, replace(DOWN, error="Received: Bad peer AS"), LATER) == said
    said = "refused by us: they send AS 65002 (BGPPeer to-a on node node-b), we expect 65000"
    assert trouble(session, replace(DOWN, error="BGP Error: Bad peer AS"), LATER) == said
    half = replace(SESSION, other_end=OtherEnd("node-b", 65002, SESSION.local_as, "the mesh"))
    said = "refused: they expect another AS, we send 64512"
    assert trouble(half, replace(DOWN, error="Received: Bad peer AS"), LATER) == said


def test_what_their_administrator_says_is_said() -> None:
    peer = replace(DOWN, error="Received: Administrative shutdown", message="rack is moved until five")
    assert trouble(SESSION, peer, LATER) == (
        "closed by them: their administrator has shut it down; they say 'rack is moved until five'"
    )


def test_silence_names_what_this_session_has() -> None:
    assert trouble(SESSION, DOWN, LATER) == (
        "no answer from 192.0.2.254; they want a TCP-MD5 password, or a firewall drops TCP port 179?"
    )
    guarded = replace(SESSION, password=Secret("a", "b"), ttl=1, port=1790)
    assert trouble(guarded, DOWN, LATER) == (
        "no answer from 192.0.2.254; the TCP-MD5 password differs, or they are more than 1 hop away (ttlSecurity), "
        "or a firewall drops TCP port 1790?"
    )
    assert trouble(SESSION, replace(DOWN, error="Socket: Connection timed out"), LATER).startswith("no answer from 192.0.2.254")


def test_nothing_is_wrong_with_one_that_has_just_begun() -> None:
    assert trouble(SESSION, DOWN, 1003.0) == ""


def test_nothing_is_wrong_with_one_that_stands_whatever_was() -> None:
    up = Peer("peer_tor", "Established", error="Received: Administrative reset", channels={4: Channel(up=True)})
    assert trouble(SESSION, up, LATER) == ""


def test_a_family_that_they_do_not_carry() -> None:
    up = Peer("peer_tor", "Established", channels={4: Channel(up=True), 6: Channel()})
    both = replace(SESSION, families=(4, 6))
    assert trouble(both, up, LATER) == "they carry no IPv6 routes here: they need a session of that family"


def test_one_that_waits_and_one_that_is_not_there() -> None:
    assert trouble(SESSION, replace(DOWN, state="Passive"), LATER) == "waits for 192.0.2.254 to connect"
    assert trouble(SESSION, None, LATER) == "BIRD does not have it yet"
