"""Wording: what is wrong with a session, in words, and what to look at.

BIRD says what it saw ("Received: Bad peer AS"); people want to know who has to change what.  Which AS the other end expects, or sends,
BIRD does not say; of a node the datastore knows (`other_end`).  What a peer drops in silence (a wrong
password, too many hops, a firewall) leaves no error at all: then the words name what of that this session has.
"""

from __future__ import annotations

from netloom.bgp.status import Peer
from netloom.model.routing import OtherEnd, Session
from netloom.model.showing import shown

_RECEIVED, _SENT, _SOCKET, _AUTOMATIC, _OWN = "Received: ", "BGP Error: ", "Socket: ", "Automatic shutdown: ", "Error: "
_PATIENCE = 10.0
"""Seconds that a session may take without anything being wrong."""


def trouble(session: Session, peer: Peer | None, now: float) -> str:
    """Why it is not up, or not whole; empty: nothing is wrong that is known."""
    if peer is None:
        return "BIRD does not have it yet"
    if peer.established:
        missing = [f"IPv{f}" for f in session.families if not (peer.channels.get(f) and peer.channels[f].up)]
        return f"they carry no {' and no '.join(missing)} routes here: they need a session of that family" if missing else ""
    if peer.error:
        said = f"; they say {shown(peer.message)}" if peer.message and peer.error.startswith(_RECEIVED) else ""
        return f"{_of_error(session, peer.error)}{said}"
    if peer.state == "Passive":
        return f"waits for {session.address} to connect"
    if peer.since and now - peer.since < _PATIENCE:
        return ""
    return _silence(session)


def _of_error(session: Session, error: str) -> str:
    for prefix, worded in ((_RECEIVED, _received), (_SENT, _sent), (_SOCKET, _socket)):
        if error.startswith(prefix):
            return worded(session, error.removeprefix(prefix))
    if error.startswith(_AUTOMATIC):
        return f"closed here: more than {session.limit} prefixes came; look at what they announce, or raise the limit"
    words = error.removeprefix(_OWN)
    return _MISCELLANEOUS[words].format(address=session.address) if words in _MISCELLANEOUS else words


_MISCELLANEOUS = {
    "Neighbor lost": "{address} is on no link of this node: it cannot be a direct neighbour",
    "Link down": "the link to {address} is down",
    "Invalid next hop": "they tell routes by next hops that lead nowhere",
    "BFD session down": "BFD hears nothing from {address}",
    "No listening socket": "nothing listens here: the address or port is taken; who else speaks BGP on this host?",
    "Kernel MD5 auth failed": "this kernel takes no TCP-MD5 password",
}


def _received(session: Session, error: str) -> str:
    """What they say of us."""
    match error:
        case "Bad peer AS":
            there = session.other_end
            told = f"AS {there.expects} ({_resource(there)})" if there and there.expects != session.local_as else "another AS"
            return f"refused: they expect {told}, we send {session.local_as}"
        case "Bad BGP identifier":
            return "refused: they have a peer with our router ID already, or have it themselves"
        case "Hold timer expired":
            return "closed by them: they heard nothing from us for the hold time; do large packets come through?"
        case "Unacceptable hold time":
            return f"refused: they do not take our hold time of {session.hold_time or 240} s"
        case "Administrative shutdown":
            return "closed by them: their administrator has shut it down"
        case "Administrative reset":
            return "closed by them: their administrator has reset it"
        case "Peer de-configured":
            return "closed by them: they have us no longer in their configuration"
        case "Connection rejected":
            return f"refused: they know no peer with our address{f' {session.source}' if session.source else ''}"
        case "Maximum number of prefixes reached":
            return "closed by them: we announce more prefixes than they take"
        case "Authentication failure":
            return "refused: they ask for a password"
        case "Required capability missing" | "No supported AFI/SAFI":
            return "refused: they want something of a session that this one is not given; the families of routes, most often"
    return f"closed by them: {error}"


def _resource(there: OtherEnd) -> str:
    return f"{there.origin} on node {there.node}"


def _sent(session: Session, error: str) -> str:
    """What we say of them."""
    match error:
        case "Bad peer AS":
            there = session.other_end
            sent = there is not None and there.as_number != session.remote_as
            told = f"AS {there.as_number} ({_resource(there)})" if there and sent else "another AS"
            return f"refused by us: they send {told}, we expect {session.remote_as}"
        case "Bad BGP identifier":
            return "refused by us: they have the same router ID as this node, or none"
        case "Hold timer expired":
            return f"they said nothing for {session.hold_time or 240} s, the hold time: they, or the way there, are down"
        case "Maximum number of prefixes reached":
            return f"closed by us: more than {session.limit} prefixes came; look at what they announce, or raise the limit"
        case "Connection collision resolution":
            return ""
    return f"closed by us: {error}"


def _socket(session: Session, error: str) -> str:
    match error:
        case "Connection refused":
            return f"nobody listens on {session.address} port {session.port}: is BGP running there, and does it know us?"
        case "No route to host" | "Host is unreachable" | "Network is unreachable":
            return f"there is no way to {session.address}"
        case "Connection timed out":
            return _silence(session)
        case "Cannot assign requested address":
            return f"this node has no address {session.source} to speak from"
        case "Connection closed" | "Connection reset by peer":
            return "closed by them without a word: they know no peer with our address, or were stopped"
    return f"the connection failed: {error}"


def _silence(session: Session) -> str:
    reasons = []
    if session.password is not None:
        reasons.append("the TCP-MD5 password differs")
    else:
        reasons.append("they want a TCP-MD5 password")
    if session.ttl:
        reasons.append(f"they are more than {session.ttl} {'hop' if session.ttl == 1 else 'hops'} away (ttlSecurity)")
    reasons.append(f"a firewall drops TCP port {session.port}")
    return f"no answer from {session.address}; {', or '.join(reasons)}?"
