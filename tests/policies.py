"""Policies that use every key, and rules of every action; for several test files."""

from one_site import POLICY

EVERY_KEY = """
time_zone = "Europe/Zurich"
[budgets.heart]
epsilon = 8.0
delta = 1e-5
[datasets.heart]
submitters = ["scientist"]
kinds = ["train"]
models = ["logistic"]
modes = ["local"]
generators = ["mixture"]
units = ["record"]
columns = ["age", "chol", "ward"]
max_epsilon = 3.0
max_delta = 1e-5
max_rounds = 3
max_steps = 3
min_units = 100
min_expected_batch = 100
min_clipping_norm = 0.5
max_clipping_norm = 0.5
max_lanes = 8
max_queries = 5
hours = "08:00-18:00"
days = ["mon", "tue", "wed", "thu", "fri"]
from = 2026-11-25
until = 2026-11-25
"""

RULES = """\
[[datasets.heart.rules]]
action = "allow"
submitters = ["scientist"]
max_epsilon = 1.0
[[datasets.heart.rules]]
action = "deny"
submitters = ["intern"]
days = ["sat", "sun"]
[[datasets.heart.rules]]
action = "ask"
approvals = 2
approvers = ["alice", "bob", "carol"]
expires_after_hours = 24
max_epsilon = 3.5
"""
WITH_RULES = (
    'time_zone = "Europe/Zurich"\n'
    + POLICY.replace('["scientist"]', '["scientist", "intern"]')
    + RULES
)
