"""From scores to lower bounds on what leaked: pure functions, each citing its theorem.

They rise in what they assume. `clopper_pearson`, `trade_off`, `one_run` and `e_process` assume
nothing about the noise; `one_run_f_dp`, `gaussian` and `families` assume that the mechanism is of a
known family with noise of unknown scale; `step_level` assumes the claimed sampling and number of
steps as well. What is no bound is called something else: `credible` intervals, the `one_shot`
estimate, and the `convention` of the literature.
"""
