"""A site that sends the worst that is believed, and what each rule of a job makes of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, Federation, make_job
from unruly import changing, rounds_of

from sordino_protocols.messages import Message, Update
from sordino_protocols.models import FloatVector
from sordino_protocols.rounds import RunState
from sordino_server.aggregation import largest_plausible_norm

NAMES = ("a", "b", "c", "d", "e")
RULES = ('{ kind = "trimmed_mean", bad_sites = 1 }', '"median"', '{ kind = "krum", keep = 2 }')


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Federation]:
    running = Federation(tmp_path, NAMES)
    yield running
    running.close()


def trained(federation: Federation, rule: str, *, is_poisoned: bool) -> FloatVector:
    """The model's weights; the labels follow the first feature, so its weight should be above 0."""
    text = JOB.replace("quorum = 2", f"quorum = 5\naggregation = {rule}")
    job = make_job(text)
    plan = job.plan.require_training()

    def poison(message: Message) -> Message:
        """Against the first weight, as long as clipping and noise could make it."""
        assert isinstance(message, Update)
        size = len(message.vector)
        longest = largest_plausible_norm(
            plan, size, expected_batch_size=200.0, clipping_norm=plan.clipping_norm
        )
        vector = np.zeros(size, dtype=np.float32)
        vector[0] = 0.99 * longest
        return replace(message, vector=vector)

    changed = {"c": changing(federation, "c", Update, poison)} if is_poisoned else {}
    run = federation.submit(job)
    federation.coordinator(run, federation.grid(changed)).execute()
    assert run.state() is RunState.DONE
    # Nothing about the update shows that it is poisoned.
    assert all(each["participants"] == list(NAMES) for each in rounds_of(run))
    return run.model()


def test_a_mean_lets_one_site_turn_the_model_around(five: Federation) -> None:
    assert trained(five, '"mean"', is_poisoned=True)[0] < 0


@pytest.mark.parametrize("rule", RULES)
def test_a_robust_rule_keeps_what_the_others_learnt(five: Federation, rule: str) -> None:
    assert trained(five, rule, is_poisoned=True)[0] > 0.1


def test_robust_rules_learn_like_the_mean_where_nobody_is_bad(five: Federation) -> None:
    weights = {rule: trained(five, rule, is_poisoned=False)[0] for rule in ('"mean"', RULES[0])}
    assert weights[RULES[0]] == pytest.approx(weights['"mean"'], rel=0.5)
