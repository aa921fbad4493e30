"""Programs of our own in the kernel, without a compiler: assembled here, verified and compiled to machine code there (bpf(2)).

assembler   a program as a table of steps, each with its reason; labels, no counted jumps
maps        what a program looks up: prefixes (longest match), exact keys, counters
programs    load, with the verifier's words at the step that they are about; run on a crafted packet
hooks       attach to an interface, for what arrives or leaves, by TCX, else clsact; or in its driver (XDP)
pins        maps that outlive the agent

    PORTS = Shape(maps.Kind.HASH, key=4, value=1, room=1024)
    program = Program("loom_x", Kind.CLASSIFIER, (
        step("the context stays in r6: a call takes r0 to r5", mov(R6, R1)),
        step("the interface is the key", load(R2, U32, R6, SKB_IFINDEX), store(U32, FP, -4, R2)),
        step("is it known?", map_into(R1, "ports"), mov(R2, FP), add(R2, -4), call(Helper.MAP_LOOKUP)),
        step("no: drop", jump_if(R0, "==", 0, "drop")),
        step("yes: on to the next program", mov(R0, NEXT), leave()),
        at("drop", "unknown", mov(R0, DROP), leave()),
    ))
    ports = Map.create("ports", PORTS)
    with load(program, {"ports": ports}) as loaded:
        assert run(loaded, frame).verdict == DROP           # on a packet of one's own: tests
        attach(netlink, index, Way.ARRIVING, loaded)         # stays; a program of the same name is replaced between two packets

The verifier wants to see each access to a packet within bounds: compare a pointer with PACKET_END first, and again after a call that
may move the packet.  Programs that are to leave things alone end with NEXT rather than GO_ON, so that others' programs get their turn.
"""

from netloom.dataplane.bpf.hooks import Means, Way, attach, attach_early, attached, best, detach, detach_early, early
from netloom.dataplane.bpf.maps import Map, Shape, prefix_key
from netloom.dataplane.bpf.programs import Loaded, ProgramInfo, Run, every, load, program_info, run
from netloom.dataplane.bpf.system import BpfError

__all__ = [
    "BpfError",
    "Loaded",
    "Map",
    "Means",
    "ProgramInfo",
    "Run",
    "Shape",
    "Way",
    "attach",
    "attach_early",
    "attached",
    "best",
    "detach",
    "detach_early",
    "early",
    "every",
    "load",
    "prefix_key",
    "program_info",
    "run",
]
