"""Rendering: BgpConfig → the text of bird.conf, for BIRD 2.0.12 and newer, 3.x included.

    who it is            router id, log, formats that `status` reads
    sets                 own blocks, pools, and those that BIRD's routes may lead to, by family
    what the host has    devices, the links' own prefixes, BFD
    what is announced    `own`: blocks and services, without routes in the kernel; `reach`: ways to peers
    filters              what is believed and told (filtering)
    kernel               one protocol a family: learns what others route, and keeps what BIRD has told it when BIRD dies
    sessions             one protocol each (sessions)

The text holds its own fingerprint, as a constant that BIRD tells when it is asked (`eval CONTENT`): so whoever compares needs no memory
of what a BIRD was told, or when it was started.

Deterministic: equal values, equal text, so that text can be compared.  No value gets in but by `tokens`; one that cannot is a ConfigError
that names the resource, and there is no text.  Things are defined before they are used, which BIRD insists on.

Nothing is taken out that BIRD would take as a wish to forget: a kernel protocol that goes away with `persist` leaves its routes behind
for ever.  So both families' stand even where BGP is off.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address

from netloom.bgp import tokens
from netloom.bgp.filtering import functions, sets, to_kernel
from netloom.bgp.rules import Rules, add_community
from netloom.bgp.sessions import TEMPLATE, Writer
from netloom.bgp.tokens import address, comment, number, prefix, quoted
from netloom.errors import ConfigError
from netloom.model.addresses import host_prefix
from netloom.model.routing import Announced, BgpConfig, Secret, Session
from netloom.model.showing import shown

GRACE = 30
"""Seconds that a BIRD which has just started waits for its peers' words before it believes that it has heard everything."""
_AGENT = 79  # RTPROT of the agent's own routes
_NOBODY = IPv4Address("0.0.0.1")  # BIRD has to have a router ID, sessions or not
_HIDDEN = "(hidden)"
_UNFIT = ValueError, TypeError, AttributeError, LookupError
"""What comes of values that are not what their types say."""
CONTENT, _DIGITS = "CONTENT", 32
_CONTENT = re.compile(rf'define {CONTENT} = "([0-9a-f]+)";\n\Z')
_SOFT = re.compile(r"^ +(?:(?:import|export) filter|import limit|bfd) .*\n", re.MULTILINE)
_SESSION = re.compile(r"^protocol bgp (\w+) .*?^}$", re.MULTILINE | re.DOTALL)


def render(config: BgpConfig | None, secrets: Mapping[Secret, str], node: str = "") -> str:
    """The whole file.  None: BGP is off; then it has no session, and takes its routes out of the kernel.  Raises ConfigError."""
    if config is None:
        config = BgpConfig(node=node, router_id=_NOBODY, local_as=0)
    with _named("BGPConfiguration"):
        parts = _parts(config, secrets)
    text = "\n\n".join("\n".join(lines) for lines in parts if lines)
    return f'{text}\n\ndefine {CONTENT} = "{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}";\n'


def content(text: str) -> str:
    """The fingerprint in a text of ours; empty in others."""
    found = _CONTENT.match(text, text.rfind("\ndefine ") + 1)
    return found[1] if found else ""


def blocks(text: str) -> dict[str, str]:
    """Of a text of ours, each session's part by its name."""
    return {found[1]: found[0] for found in _SESSION.finditer(text)}


def goes_on(known: str, wanted: str) -> bool:
    """Whether BIRD keeps a session that was written so and is to be so: filters, limits and BFD it changes while the session is up."""
    return _SOFT.sub("", known) == _SOFT.sub("", wanted)


def render_for_people(config: BgpConfig | None, node: str = "") -> str:
    """The same without passwords."""
    sessions = config.sessions if config else ()
    return render(config, {session.password: _HIDDEN for session in sessions if session.password}, node)


def _parts(config: BgpConfig, secrets: Mapping[Secret, str]) -> list[Sequence[str]]:
    for family in config.families:
        tokens.family(family)
    parts: list[Sequence[str]] = [_header(config)]
    parts += [sets(config, family) for family in config.families]
    parts.append(_host(config))
    parts += [_announced(config, family) for family in config.families]
    rules = Rules(config.filters)
    for family in config.families:
        with _named("BGPFilter"):
            parts.append([*rules.functions(family)])
        parts.append([*functions(config, family), *to_kernel(config, family)])
    parts += [_kernel(family) for family in config.families]
    if config.sessions:
        parts.append([*TEMPLATE])
    _check_names(config.sessions)
    writer = Writer(config, rules, secrets)
    for session in config.sessions:
        with _named(session.origin):
            parts.append(writer.lines(session))
    return parts


@contextmanager
def _named(origin: object) -> Iterator[None]:
    """What cannot be written is said of the resource that it comes from."""
    try:
        yield
    except _UNFIT as e:
        raise _refused(origin, e) from e


def _refused(origin: object, error: Exception) -> ConfigError:
    return ConfigError(str(error), where=shown(str(origin))[1:-1], hint="netloom get bgppeers -o yaml")


def _header(config: BgpConfig) -> list[str]:
    return [
        comment(f"BIRD's configuration on node {config.node}, made by Netloom's agent.  What is changed here is lost."),
        comment("netloom bgp render shows it, netloom bgp peers what comes of it."),
        "log stderr { info, remote, warning, error, auth, fatal, bug };",
        f"router id {address(config.router_id)};",
        "timeformat protocol iso long;",
        f"graceful restart wait {GRACE};",
    ]


def _host(config: BgpConfig) -> list[str]:
    with _named("BGPConfiguration ignoredInterfaces"):
        ignored = "".join(f"-{quoted(each, 'an interface')}, " for each in ("loom*", *config.ignored))
    lines = ["protocol device devices { scan time 2; }"]
    families = " ".join(f"ipv{family};" for family in config.families)
    lines.append(f'protocol direct uplinks {{ {families} interface {ignored}"*"; }}')
    if any(session.bfd is not None for session in config.sessions):
        lines.append("protocol bfd detection { }")
    return lines


def _announced(config: BgpConfig, family: int) -> list[str]:
    ours = [each for each in config.announced if each.prefix.version == family]
    lines = _static(f"own{family}", family, _routes(ours))
    ways: dict[str, str] = {}
    for session in config.sessions:
        if session.via is not None and session.address.version == family:
            with _named(session.origin):
                peer = prefix(host_prefix(session.address))
                ways[peer] = f"    route {peer} via {address(session.via)};  {comment(session.origin)}"
    return lines + _static(f"reach{family}", family, ways.values())


def _static(name: str, family: int, routes: Iterable[str]) -> list[str]:
    lines = [*routes]
    return [f"protocol static {name} {{", f"    ipv{family};", *lines, "}"] if lines else []


def _routes(announced: Iterable[Announced]) -> Iterator[str]:
    """Many have one origin: what is the same for all of those is made once."""
    ends: dict[object, str] = {}
    for each in announced:
        try:
            like = each.origin, each.communities
            end = ends.get(like)
            if end is None:
                end = ends[like] = _end(each)
            line = f"    route {prefix(each.prefix)} blackhole{end}"
        except _UNFIT as e:
            raise _refused(each.origin, e) from e
        yield line


def _end(announced: Announced) -> str:
    words = " ".join(add_community(each) for each in announced.communities)
    attributes = f" {{ {words} }}" if words else ""
    return f"{attributes};  {comment(announced.origin)}"


def _kernel(family: int) -> list[str]:
    """Metric 0: each route's own.  What is learned is not announced; next hops are looked up in it."""
    return [
        f"protocol kernel kernel{family} {{",
        "    learn; persist; scan time 2; metric 0; merge paths on; graceful restart on;",
        f"    ipv{family} {{",
        f'        import filter {{ if krt_source = {number(_AGENT)} || ifname ~ "loom*" then reject; accept; }};',
        f"        export filter to_kernel{family};",
        "    };",
        "}",
    ]


def _check_names(sessions: Iterable[Session]) -> None:
    seen: dict[str, str] = {}
    for session in sessions:
        if session.name in seen:
            raise ConfigError(
                f"has the same name for BIRD as {shown(seen[session.name])}: {shown(session.name)}", where=session.origin
            )
        seen[session.name] = session.origin
