"""Programs that tests run and no machine has to have: see netloom.lab.packages."""

from __future__ import annotations

from netloom.lab.packages import CACHE, environment, unpacked

__all__ = ["CACHE", "environment", "unpacked"]
