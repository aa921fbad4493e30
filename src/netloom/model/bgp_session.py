"""What a BGP session may be told to be, whichever resource says so (BGPPeer, or BGPConfiguration for the mesh): password, BFD, times."""

from __future__ import annotations

from netloom.model.bgp_values import Duration, milliseconds
from netloom.model.objects import Spec
from netloom.model.routing import Bfd
from netloom.model.validation import check_object_name, check_secret_key

MAX_RESTART = 4095  # seconds: 12 bits (RFC 4724, section 3)
MAX_HOLD = 65535  # seconds: 16 bits (RFC 4271, section 4.2)
MIN_HOLD = 3  # seconds (RFC 4271, section 4.2)
BFD_OR_RESTART = "a node whose BIRD restarts is gone for BFD, and there still for graceful restart"


class SecretKeyRef(Spec, frozen=True, kw_only=True):
    """A value of a Secret, or of a file `{stateDir}/secrets/NAME/KEY` on the node.  `optional`: the Secret need not be there."""

    name: str
    key: str
    optional: bool = False

    def __post_init__(self) -> None:
        check_object_name(self.name, "name")
        check_secret_key(self.key, "key")


class BGPPassword(Spec, frozen=True, kw_only=True):
    secret_key_ref: SecretKeyRef


class BfdSpec(Spec, frozen=True, kw_only=True):
    """Bidirectional Forwarding Detection (RFC 5880)."""

    interval: Duration = "300ms"
    multiplier: int = 3

    def __post_init__(self) -> None:
        if not 10 <= milliseconds(self.interval) <= 60_000:
            raise ValueError(f"interval: {self.interval} is out of range; 10ms to 1m")
        if not 2 <= self.multiplier <= 255:
            raise ValueError(f"multiplier: {self.multiplier} is out of range; 2 to 255")

    @property
    def value(self) -> Bfd:
        return Bfd(milliseconds(self.interval), self.multiplier)
