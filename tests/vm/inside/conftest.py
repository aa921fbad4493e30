"""Labs, as in the lab ring."""

from __future__ import annotations

from tests.lab.conftest import bring_up, lab_name

__all__ = ["bring_up", "lab_name"]
