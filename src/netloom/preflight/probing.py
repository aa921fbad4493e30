"""What the kernel can do, tried out: in a network namespace that goes again, with the very requests that the agent will make.

Nothing of the host is touched, but a module may be loaded, as it would be for the agent.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Final

from netloom.calc.ports import published
from netloom.calc.rules import sources
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, VxlanData, new_bridge, new_ifb, new_veth, new_vxlan
from netloom.dataplane.nft import Nft
from netloom.dataplane.shaping import Shapings
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, PublishedPort, State
from netloom.model.desired import IPIP, UDP, Filter, Limit, Outer, Shaping
from netloom.reconcile import reconcile

_MAC, _OTHER_MAC = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:02")
_MTU = 1500
_DEADLINE = 10
_VXLAN = VxlanData(4096, 4789, ipaddress.ip_address("127.0.0.1"), 0, learning=False)
_ADDRESSES = (ipaddress.ip_interface("10.244.0.2/24"), ipaddress.ip_interface("fd00:244::2/64"))
_PREFIXES = frozenset(address.network for address in _ADDRESSES)
_POD = Attachment(
    key=AttachmentKey("pods", "probe", "eth0"),
    sequence=1,
    state=State.READY,
    netns=NetnsId(0, 0),
    host_interface="loom0",
    mac=_MAC,
    host_mac=_OTHER_MAC,
    mtu=_MTU,
    addresses=_ADDRESSES,
    ports=(PublishedPort("tcp", 8080, 80),),
)
RULES: Final = Filter(
    sources=sources(_POD),
    pools=_PREFIXES,
    masquerade=_PREFIXES,
    blocks=_PREFIXES,
    vteps=frozenset(address.ip for address in _ADDRESSES),
    outers=frozenset((Outer(UDP, 4789), Outer(IPIP))),
    tunnels=frozenset(("loom.vxlan",)),
    probe_port=9478,
    bridges=frozenset(("loom.br0",)),
    internal=frozenset(("loom.br0",)),
    isolated=frozenset(("loom.br0",)),
    published=frozenset(published(_POD)),
)
"""One of everything that rules can be made of."""


def refused() -> Mapping[str, str]:
    """What the kernel lacks, with its reason.  Raises OSError where no namespace can be made."""
    namespace = netns.create()
    try:
        with netns.entered(namespace):
            return dict(_refusals())
    finally:
        os.close(namespace)


def _refusals() -> Iterator[tuple[str, str]]:
    home = netns.own()
    try:
        with Netlink() as kernel:
            tries: dict[str, Callable[[], None]] = {
                "veth": lambda: kernel.transact(new_veth("loom0", "pod0", home, mac=_MAC, peer_mac=_OTHER_MAC, mtu=_MTU)),
                "bridge": lambda: kernel.transact(new_bridge("loom.br0", mac=_MAC, mtu=_MTU)),
                "vxlan": lambda: kernel.transact(new_vxlan("loom.vxlan", _VXLAN, mac=_MAC, mtu=_MTU)),
                "ifb": lambda: kernel.transact(new_ifb("loomq0", mac=_MAC, mtu=_MTU)),
                "bandwidth": lambda: _shape(kernel),
                "nftables": _filter,
                "nft": _list,
            }
            for feature, attempt in tries.items():
                try:
                    attempt()
                except DataplaneError as e:
                    yield feature, str(e)
    finally:
        os.close(home)


def _shape(kernel: Netlink) -> None:
    shaping = Shaping(Limit(125_000, 125_000, 125_000), redirect="loomq0")
    for failure in reconcile(Shapings(kernel), {"loom0": shaping}).failures:
        raise failure


def _filter() -> None:
    with closing(Nft()) as nft:
        for failure in nft.reconcile(RULES).failures:
            raise failure


def _list() -> None:
    """Nothing of ours needs that program; but who looks at the rules by one that is too old sees half of them."""
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return
    try:
        done = subprocess.run([program, "list", "ruleset"], capture_output=True, text=True, timeout=_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DataplaneError("nft", "list ruleset", str(e)) from e
    if done.returncode or done.stderr:
        raise DataplaneError("nft", "list ruleset", (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0])
