"""Probes of a whole site that is asked for noisy marginals: what it says, charges and repeats.

As `site_probes`, of a synthesis in place of a training: two sites with one declaration and other
records went through one run each.
"""

import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sordino_audit.probes.chance import FALSE_ALARM, measured_scale, scale_p_value, smallest
from sordino_audit.probes.found import Found
from sordino_audit.probes.site_probes import retries, same_words
from sordino_audit.probes.site_runs import Trial
from sordino_audit.probes.trial_site import TABLE, table_job
from sordino_client.data.table_cells import cells_of
from sordino_client.synthesis.measure import exact_counts
from sordino_protocols.messages import Admission, Message, Receipt, Tabulated
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.privacy import event_to_json

Floats = NDArray[np.float64]

_EXPECTED: Mapping[str, type[Message]] = {
    "admission": Admission,
    TABLE: Tabulated,
    "receipt": Receipt,
}


def answers(first: Trial, second: Trial) -> Found:
    """The run goes through at both sites: each request got its kind of answer, no refusal."""
    for trial in (first, second):
        for name, kind in _EXPECTED.items():
            got = type(trial.replies[name])
            if got is not kind:
                return Found(is_passed=False, message=f"{name} was answered with {got.__name__}")
    return Found(is_passed=True, message=f"{len(_EXPECTED)} requests were answered at two sites")


def charges(first: Trial, second: Trial) -> Found:
    """The ledger charged what the plan says that the marginals cost, and nothing else."""
    expected = [event_to_json(_plan().event)]
    listed = [_charged(trial.replies["receipt"]) for trial in (first, second)]
    agreeing = sum(each == expected for each in listed)
    return Found(
        agreeing == len(listed),
        f"{agreeing} of 2 ledgers charged exactly what the plan says that the marginals cost",
    )


def table_noise(first: Trial, second: Trial) -> Found:
    """Marginals are exact counts and the planned noise, which no two sites share."""
    noise = [_noise(trial) for trial in (first, second)]
    difference = (noise[0] - noise[1]) / np.sqrt(2)
    both = np.concatenate(noise)
    p_value = smallest([scale_p_value(each) for each in (both, difference)])
    return Found(
        p_value > FALSE_ALARM,
        f"noise of marginals was {measured_scale(both):.4f} times what is"
        f" accounted; of the difference of two sites {measured_scale(difference):.4f} times"
        f" (corrected p-value {p_value:.2g})",
    )


OF_A_SYNTHESIS: Mapping[str, Callable[[Trial, Trial], Found]] = {
    "what else a site says of a synthesis": same_words,
    "repeated requests for marginals": retries,
    "charges of a synthesis": charges,
    "noise of a site's marginals": table_noise,
}
"""Probes of runs that went through; `answers` says whether they did."""


def _plan() -> SynthesisPlan:
    plan = table_job().plan.synthesis
    if plan is None:
        raise TypeError("the trial synthesizes nothing")
    return plan


def _noise(trial: Trial) -> Floats:
    """Of the marginals, in units of their planned standard deviations."""
    plan, reply = _plan(), trial.replies[TABLE]
    if not isinstance(reply, Tabulated):
        raise TypeError("the trial has no table")
    cells = cells_of(trial.dataset.training, trial.dataset.schema)
    exact = exact_counts(cells, plan.released_marginals, shape=plan.shape)
    stds = [each.noise_std for each in plan.released_marginals]
    lengths = [each.cells for each in plan.released_marginals]
    return np.asarray((reply.numbers - exact) / np.repeat(stds, lengths))


def _charged(reply: Message) -> object:
    return json.loads(reply.events_json) if isinstance(reply, Receipt) else []
