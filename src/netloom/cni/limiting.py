"""Limiting: a pod's link held to the rates that were asked for, at ADD, before it is up; and whether it still is, at CHECK.

What is wanted is the pod's slice (`calc.shaping`), which a pass applies as well.
"""

from __future__ import annotations

from netloom.calc.tables import Tables
from netloom.dataplane.netlink import Netlink, NetlinkError, device, new_ifb, set_link
from netloom.dataplane.shaping import Shapings, refusal, shape
from netloom.dataplane.sysctls import speaks_ipv6
from netloom.model.attachments import Attachment
from netloom.model.desired import Ifb


def limit(kernel: Netlink, attachment: Attachment, part: Tables, index: int, ifb_index: int) -> None:
    """`index`: the host interface's, which is there and has nothing yet.  `ifb_index`: one for what the pod sends to pass."""
    at = {attachment.host_interface: index, "": 0}
    try:
        for name, link in part.links.items():
            if isinstance(link, Ifb):
                at[name] = ifb_index
                kernel.transact(
                    new_ifb(name, mac=link.mac, mtu=link.mtu, index=ifb_index),
                    set_link(ifb_index, alias=link.alias, generates=False if speaks_ipv6(link.mtu) else None),
                    set_link(ifb_index, up=True),
                )
        kernel.transact(*(one for name, want in part.shaping.items() for one in shape(at[name], want, at[want.redirect])))
    except NetlinkError as e:
        raise refusal(attachment.host_interface, e) from e


def inspect(kernel: Netlink, part: Tables) -> list[str]:
    """What is not as ADD left it, in words."""
    found = [f"{name} does not hold to its rate" for name in Shapings(kernel).changes(part.shaping).put]
    ifbs = {name: device(kernel, name) for name, link in part.links.items() if isinstance(link, Ifb)}
    return found + [f"{name} is down: nothing that the pod sends passes" for name, one in ifbs.items() if one and not one.up]
