"""For all rings: a run that somebody put into the background has inherited an ignored SIGINT, which tests send to programs."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
