"""Policy rules as bytes: packets from one address look for their route in a table of their own (linux/fib_rules.h)."""

from __future__ import annotations

import struct

from netloom.dataplane.netlink.tables import PROTOCOL
from netloom.dataplane.netlink.wire import FAMILY, NLM_F_CREATE, NLM_F_EXCL, attribute, attributes, message, to_int, u8, u32
from netloom.model.addresses import Address

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
_RULE = struct.Struct("=BBBBBxxBI")  # family, lengths of destination and source, TOS, table, action, flags
_SRC, _PRIORITY, _TABLE, _PROTOCOL = 2, 6, 15, 21  # FRA_*
_TO_TABLE = 1  # FR_ACT_TO_TBL
_BEFORE_MAIN = 30000  # main's is 32766


def add_rule(source: Address, table: int) -> bytes:
    """Refused (EEXIST) where there is the very same."""
    return message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _encode(source, table))


def delete_rule(source: Address, table: int) -> bytes:
    return message(RTM_DELRULE, 0, _encode(source, table))


def get_rules(version: int) -> bytes:
    """To be dumped."""
    return message(RTM_GETRULE, 0, _RULE.pack(FAMILY[version], 0, 0, 0, 0, 0, 0))


def is_rule(body: bytes, source: Address, table: int) -> bool:
    """Whether a rule of a dump leads packets from `source` into `table`."""
    _, _, length, _, _, action, _ = _RULE.unpack_from(body)
    found = attributes(body, _RULE.size)
    return (
        action == _TO_TABLE
        and length == source.max_prefixlen
        and found.get(_SRC) == source.packed
        and to_int(found.get(_TABLE, b"")) == table
    )


def _encode(source: Address, table: int) -> bytes:
    head = _RULE.pack(FAMILY[source.version], 0, source.max_prefixlen, 0, 0, _TO_TABLE, 0)
    return head + attribute(_SRC, source.packed) + u32(_PRIORITY, _BEFORE_MAIN) + u32(_TABLE, table) + u8(_PROTOCOL, PROTOCOL)
