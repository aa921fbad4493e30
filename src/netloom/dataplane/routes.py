"""Routes of the main table; ours are those of protocol 79, whatever else they say.

The kernel's IPv4 table takes metric 0 in a delete for "any metric".  A pod's route has metric 0, and below it, under the same
prefix, there may be the blackhole of a block of one address.  So such a route is read first, and deleted by all its attributes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netloom.dataplane.entries import UNLIKE, Entries, Found
from netloom.dataplane.netlink import delete_route_by_key, put_route
from netloom.dataplane.netlink.tables import (
    AFTER_ROUTE,
    RTM_DELROUTE,
    encode_route,
    get_routes,
    parse_route,
)
from netloom.dataplane.netlink.wire import message
from netloom.model.desired import Route, RouteKey


class Routes(Entries[RouteKey, Route]):
    name = "routes"

    def leading(self) -> frozenset[RouteKey]:
        """Those that lead to other nodes now."""
        found = self._decoded(self.read({}).values())
        return frozenset(key for key, values in found.items() if any(isinstance(v, Route) and v.gateway for v in values))

    def device(self, key: RouteKey, value: Route) -> str:
        return value.device

    def owns(self, key: RouteKey) -> bool:
        return True

    def encode(self, key: RouteKey, value: Route, index: int) -> bytes:
        return encode_route(key, value, index) + AFTER_ROUTE[key.prefix.version]

    def decode(self, entry: bytes, names: Mapping[int, str]) -> Found[RouteKey] | None:
        """A type of service or a source prefix would be part of the key: such a route is not ours, whoever marked it."""
        found = parse_route(entry, names)
        return None if found.selective else Found(found.key, found.route or UNLIKE)

    def read(self, at: Mapping[str, int]) -> dict[bytes, bytes]:
        return {body: body for version in (4, 6) for body in self._netlink.dump(get_routes(version))}

    def put_request(self, key: RouteKey, value: Route, index: int) -> bytes:
        return put_route(key, value, index)

    def delete_requests(self, keys: Collection[RouteKey]) -> Iterable[tuple[RouteKey, bytes]]:
        yield from ((key, delete_route_by_key(key)) for key in keys if key.metric)
        if any(not key.metric for key in keys):
            for body in self._netlink.dump(get_routes(4)):
                found = parse_route(body, {})
                if not found.key.metric and found.key in keys and not found.selective:
                    yield found.key, message(RTM_DELROUTE, 0, body)
