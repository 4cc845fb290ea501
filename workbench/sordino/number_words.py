"""Numbers as a page writes them."""

import math


def percent_at_most(share: float) -> str:
    """An upper bound on a share in percent, rounded up: no bound reads smaller than it is."""
    # A rounding error of the product must not become a tenth of a percent.
    return f"{math.ceil(round(1000 * share, 6)) / 10:.1f}%"
