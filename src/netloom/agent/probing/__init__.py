"""Probing: does what this node sends to another one arrive there, by each way that leads to it?

frames    the question and the answer, as bytes
ways      which ways lead to a node: its underlay address, and each tunnel that a route to its pods uses
prober    the sockets: asks other nodes, and answers them
measuring what one way carries; faults: what that means, in words
rounds    which node is asked when
probing   all of it, as the agent runs it

    prober.ask(peer, way, size)     one packet of that size that must not be cut, and its answer
    prober.stream(peer, way)        some 64 KiB by TCP, in segments as large as the kernel makes them
"""

from netloom.agent.probing.frames import SMALL
from netloom.agent.probing.prober import Echo, Failure, Peer, Prober
from netloom.agent.probing.probing import Probing
from netloom.agent.probing.rounds import Figures, Sight
from netloom.agent.probing.ways import Way

__all__ = ["SMALL", "Echo", "Failure", "Figures", "Peer", "Prober", "Probing", "Sight", "Way"]
