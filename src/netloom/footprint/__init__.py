"""Footprint: what Netloom puts on a host besides the agent's own run, and how all of it goes again.

files        what is put, as a pure function; the texts are in files/
tree         a file tree below a root, whose symbolic links never lead out of it
record       what was put, in STATE_DIR/installed.json
installing   files → steps → host; the conflist last, and only when the agent answers
removing     the way back: the conflist first
kernel       links, routes, rules of ours in this network namespace
runtimes     which container runtime is here, and what it reads
services     systemd, where it runs
"""
