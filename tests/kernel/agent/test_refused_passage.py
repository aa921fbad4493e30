"""A firewall that lets nobody write into its table: firewalld does so from 2.1 on (NftablesTableOwner=yes)."""

from __future__ import annotations

import time

from netloom.dataplane import netns
from netloom.dataplane.netlink.wire import NLM_F_CREATE, text
from netloom.dataplane.nft.expressions import be32
from netloom.dataplane.nft.nfnetlink import SUBSYSTEM_NFTABLES, Message, Nfnetlink
from netloom.dataplane.nft.objects import INET, Hook, TableId, add_chain
from tests.agent_process import HASTY, running_machine
from tests.cni_calls import NATIVE, Runtime
from tests.residue import quiet_residue
from tests.waiting import eventually

TABLE = TableId(INET, "firewalld")
TABLE_OWNER = 0x2  # NFT_TABLE_F_OWNER
OWNED = Message(SUBSYSTEM_NFTABLES << 8, NLM_F_CREATE, INET, text(1, TABLE.name) + be32(2, TABLE_OWNER), "table")


def test_pods_are_served_and_what_stands_in_their_way_is_told_once() -> None:
    with running_machine(command=HASTY) as machine, machine.sandbox() as sandbox:
        with netns.entered(machine.netns):
            firewall = Nfnetlink()
        firewall.transact([OWNED, add_chain(TABLE, "filter_FORWARD", Hook(2, 10))])
        eventually(lambda: any("NftablesTableOwner=no" in problem.message for problem in machine.state().problems))
        quiet_residue(machine)  # the start is through
        log = machine.log()
        time.sleep(1.2)  # it is tried again and again
        assert machine.log() == log
        assert log.count("Operation not permitted") == 1
        assert Runtime(machine.run_dir, NATIVE)("ADD", sandbox).ok
        firewall.close()
