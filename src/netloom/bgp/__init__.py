"""BGP: what a node's BIRD is told, and what it answers.

    BgpConfig ─rendering─▶ text ─applying─▶ bird.conf ─control─▶ BIRD ─status─▶ sessions, in words

BIRD is another thing that has to be made to agree, like a kernel's table: one file is replaced as a whole, and BIRD takes it while its
sessions stand.  It is a process of its own, that the agent neither starts nor stops.
"""
