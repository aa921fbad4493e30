"""IPIP and UDP tunnels in the kernel, by two programs of ours (`dataplane.bpf`).

    pod ─ route ─▶ loom.ipip ─ sending ─▶ uplink ══ outer packet ══▶ uplink ─ arriving ─▶ loom.ipip ─ route ─▶ pod

wire       what the programs and the agent agree on: maps, addresses, lengths
header     the outer header, put together on a program's stack
sending    on the device, for what leaves by it
arriving   on each uplink, for what arrives there
tables     drivers: prefixes, peers, programs
"""
