"""The Python client as one file that starts quickly: `python3 -m netloom.cni.compiled /opt/cni/bin/netloom`.

Python compiles a script each time that it runs, and for client.py that takes half as long as the interpreter's own start.  So the
file carries the compiled code, after the source, which an interpreter of another version takes:

    #!/usr/bin/python3 -ISBcCODE   magic number of the compiler   client.py   what it was compiled to

The tricky thing is the first line.  Linux hands all that follows the interpreter's path to it as one argument, up to 255 bytes,
and after `-c` the rest of an argument is code.  So the file is not read as a script (which Python would first look into for a ZIP
archive, and then parse), but by that code, and it need not be text.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path

from netloom.durable import write_durably

CLIENT = Path(__file__).with_name("client.py")

_BETWEEN = b"\n#\n"
_LONGEST = 255  # BINPRM_BUF_SIZE of linux/binfmts.h, less the end of the line
_START = (
    b"#!/usr/bin/python3 -ISBcimport posix,sys,marshal,_frozen_importlib_external as i;"
    b"_,m,s,c=posix.read(posix.open(sys.argv[1],0),1<<20).split(b'\\n#\\n',3);"
    b"exec(marshal.loads(c)if m==i.MAGIC_NUMBER else s)"
)


def compiled() -> bytes:
    """The file's content."""
    source = CLIENT.read_bytes()
    code = marshal.dumps(compile(source, CLIENT.name, "exec", dont_inherit=True, optimize=2))
    assert len(_START) <= _LONGEST and _BETWEEN not in source
    return _BETWEEN.join((_START, importlib.util.MAGIC_NUMBER, source, code))


if __name__ == "__main__":
    write_durably(sys.argv[1], compiled(), mode=0o755)
