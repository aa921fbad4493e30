"""A node that comes back after its block was given to another one: no pod gets an address of it, however early it asks."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import msgspec

from netloom.datastore import connect
from netloom.model.resources import Claim, IPBlock
from tests.agent_process import NODE, Machine, Sandbox, running_machine
from tests.cni_calls import NATIVE, Runtime
from tests.waiting import eventually


def given_away(machine: Machine) -> list[str]:
    """The node's IPv4 blocks, which are another one's now."""
    found = []
    with closing(connect(machine.datastore)) as store:
        for stored in store.list("IPBlock").items:
            block = stored.resource
            assert isinstance(block, IPBlock)
            if block.spec.cidr.version == 4 and any(claim.node == NODE for claim in block.spec.claims):
                claims = (Claim(cidr=block.spec.cidr, node="other", node_id="id-other"),)
                store.update(
                    msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, claims=claims)), stored.revision
                )
                found.append(str(block.spec.cidr))
    return found


def test_a_claim_whose_record_somebody_has_taken_away_is_made_again() -> None:
    """Nothing else would do it before the next claim; and others have no way to its pods meanwhile."""
    with running_machine() as machine, machine.sandbox() as sandbox:
        assert Runtime(machine.run_dir, NATIVE)("ADD", sandbox).ok
        with closing(connect(machine.datastore)) as store:
            before = {s.resource.key: s.resource for s in store.list("IPBlock").items}
            assert before
            for key in before:
                store.delete("IPBlock", key)
            eventually(lambda: {s.resource.key: s.resource for s in store.list("IPBlock").items} == before, 30)


def test_pods_that_wait_for_the_agent_get_no_address_of_a_block_that_was_lost() -> None:
    with running_machine() as machine, ExitStack() as stack, ThreadPoolExecutor(6) as threads:
        runtime = Runtime(machine.run_dir, NATIVE)
        sandboxes = [stack.enter_context(machine.sandbox()) for _ in range(6)]
        assert runtime("ADD", sandboxes[0]).ok and runtime("DEL", sandboxes[0]).ok
        machine.end()
        [lost] = map(ipaddress.ip_network, given_away(machine))

        def insist(sandbox: Sandbox) -> str:
            while not (answer := runtime("ADD", sandbox)).ok:
                assert answer.error == 11
            return answer.addresses[0]

        asking = [threads.submit(insist, sandbox) for sandbox in sandboxes]
        machine.start()
        assert not [address for one in asking if ipaddress.ip_interface(address := one.result()).ip in lost]
