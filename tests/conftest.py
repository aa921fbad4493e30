"""For all rings: a run that somebody put into the background has inherited an ignored SIGINT, which tests send to programs; and how long
an example takes says something of the machine, not of what is tested."""

from __future__ import annotations

import signal

from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
