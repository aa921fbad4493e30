"""Second: an interface of a pod that has a default route already, by another interface.

The kernel's main table has room for one of them, and it stays with the first.  By it everything would leave that the second interface's
address answers, and there it is dropped: no pod sends from an interface what is not that interface's address.  So what is sent
from the second one's address looks for its way in a table of its own, with the interface's index for a number.

The kernel takes the table's routes with the interface, the rule that leads there it does not: that goes at DEL.  One that stays (a
sandbox that nobody finds any more) leads nowhere, and the kernel looks on in the main table.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Collection, Iterator

from netloom.dataplane.netlink import Netlink, add_route
from netloom.dataplane.netlink.policy import add_rule, delete_rule, get_rules, is_rule
from netloom.dataplane.netlink.tables import SeenRoute
from netloom.errors import DataplaneError
from netloom.model.attachments import Attachment, Wiring
from netloom.model.desired import Route, RouteKey

_EVERYWHERE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
_METRIC = {4: 0, 6: 1024}


def table_of(attachment: Attachment, index: int, versions: Collection[int]) -> Iterator[bytes]:
    """Requests inside the sandbox: routes, and then the rules that lead there, for these families."""
    name = attachment.key.interface
    for address, gateway in zip(attachment.addresses, attachment.gateways, strict=True):
        if address.version not in versions:
            continue
        metric = _METRIC[address.version]
        if attachment.wiring is Wiring.BRIDGE:
            yield add_route(RouteKey(address.network, metric), Route(device=name), index, index)
        out = Route(device=name, gateway=gateway, onlink=True)
        yield add_route(RouteKey(_EVERYWHERE[address.version], metric), out, index, index)
        yield add_rule(address.ip, index)


def missing(inside: Netlink, attachment: Attachment, index: int, routes: Collection[SeenRoute]) -> list[str]:
    """What is not there any more, in words.  `routes`: all of the sandbox."""
    found = []
    for address, gateway in zip(attachment.addresses, attachment.gateways, strict=True):
        version = address.version
        if version not in attachment.secondary:
            continue
        out = [r for r in routes if (r.table, r.prefix) == (index, _EVERYWHERE[version])]
        if not any(r.unicast and (r.index, r.gateway) == (index, gateway) for r in out):
            found.append(f"table {index} of the sandbox has no default route via {gateway} dev {attachment.key.interface}")
        if not any(is_rule(body, address.ip, index) for body in inside.dump(get_rules(version))):
            found.append(f"the sandbox has no rule that leads what is sent from {address.ip} into table {index}")
    return found


def take_away(sandbox: int, attachment: Attachment, index: int) -> None:
    """The rules.  `sandbox`: a descriptor, which is closed."""
    try:
        with Netlink(sandbox, buffer=0) as inside:
            rules = [delete_rule(address.ip, index) for address in attachment.addresses]
            for error in inside.send_many(rules).values():
                if error.errno not in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                    raise DataplaneError("rules", attachment.key.interface, error.reason, errno=error.errno)
    finally:
        os.close(sandbox)
