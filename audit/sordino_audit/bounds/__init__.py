"""From scores to lower bounds on what leaked: pure functions, each citing its theorem.

They rise in what they assume: `clopper_pearson` and `trade_off` assume nothing about the noise,
`gaussian` assumes that the mechanism is one of the Gaussian family.
"""
