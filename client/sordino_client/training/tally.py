"""What one step of training looked like before any noise: for people at the site, and nobody else.

What must stay true: nothing of it leaves the site, none of it is logged, and nothing is computed
from it that leaves. It depends on records, and no privacy is paid for it.
"""

from dataclasses import dataclass


@dataclass(slots=True, repr=False)
class Tally:
    """One batch; filled while it is summed.

    Attributes:
        units: that were sampled, without canaries.
        clipped: of those, how many had a gradient that was not left as it was.
        loss: mean over the first units that went through the network together; None without any.
    """

    units: int = 0
    clipped: int = 0
    loss: float | None = None

    def __repr__(self) -> str:
        """Nothing of what was counted, whatever logs it."""
        return "Tally(...)"

    @property
    def clipped_share(self) -> float:
        """Share of the units whose gradient was clipped; 0 of an empty batch."""
        return self.clipped / self.units if self.units else 0.0
