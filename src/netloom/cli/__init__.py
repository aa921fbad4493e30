"""The command line: one module per command, imported when it is asked for.

    root      the group, and the one place where errors become words and exit codes
    context   where answers come from: settings, the datastore, the agent's socket
    printing  tables, JSON, YAML
    kinds     what people may call each kind, and its table

stdout carries the answer; stderr carries notes, errors and hints.  Exit codes, the same for all commands:

    0   yes, done, well
    1   a clear no: not found, refused, differences, failed checks
    2   used wrongly: an unknown flag, a manifest that cannot be read
    3   could not find out: agent or datastore away.  Never mixed up with 1
    130 interrupted
"""

from __future__ import annotations


def main() -> None:
    import io
    import signal
    import sys

    python_handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else who started us ignores Ctrl-C
    if python_handles:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to clean up yet, and no traceback to show
    from netloom.cli.root import netloom

    if python_handles:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ✗ shows ?, and no command fails for it
    netloom(prog_name="netloom")
