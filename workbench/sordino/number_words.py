"""Numbers as a page writes them."""

import math


def power_of_ten(value: float) -> str:
    """A small number with its power of ten: 1e-5 is 10 with a raised minus five."""
    mantissa, exponent = f"{value:.1e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if mantissa == "1.0" else f"{mantissa} \N{MULTIPLICATION SIGN} 10{digits}"


def percent_at_most(share: float) -> str:
    """An upper bound on a share in percent, rounded up: no bound reads smaller than it is."""
    # A rounding error of the product must not become a tenth of a percent.
    return f"{math.ceil(round(1000 * share, 6)) / 10:.1f}%"
