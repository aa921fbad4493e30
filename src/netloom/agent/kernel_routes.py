"""The kernel's main table as it is, everybody's routes: for people who compare it with what the agent wants.

Asked for in a thread of the health server, on a socket of its own: thousands of routes hold up nobody but who asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from netloom.agent.state import KernelRoute, KernelRoutes, encode_routes
from netloom.dataplane.netlink import Netlink, device_names
from netloom.dataplane.netlink.tables import get_routes, see_route


def page() -> bytes:
    return encode_routes(KernelRoutes(routes=tuple(_routes())))


def _routes() -> Iterator[KernelRoute]:
    """IPv6 hangs what leads nowhere on `lo`."""
    with Netlink() as kernel:
        names = device_names(kernel)
        for version in (4, 6):
            for body in kernel.dump(get_routes(version, protocol=0)):
                route = see_route(body)
                if route is not None:
                    device = names.get(route.index, "") if route.unicast else ""
                    yield KernelRoute(
                        destination=route.prefix,
                        via=route.gateway,
                        device=device,
                        metric=route.metric,
                        protocol=route.protocol,
                    )
