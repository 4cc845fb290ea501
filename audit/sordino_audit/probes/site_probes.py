"""Probes of a whole site: what leaves it, what it charges, and that it says nothing twice.

Two sites with one declaration and other records went through one run each (`site_runs`). Whatever
they said must be the same in both, but for what was paid for, coins, and heads of their ledgers.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from sordino_audit.probes.chance import FALSE_ALARM, measured_scale, scale_p_value, smallest
from sordino_audit.probes.fields import PAID
from sordino_audit.probes.found import Found
from sordino_audit.probes.site_runs import Trial
from sordino_audit.probes.sources import Replayed
from sordino_audit.probes.trial_site import ROUNDS, made_up_dataset, trial_job, trial_weights
from sordino_client.admitted import AdmittedRun
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.evaluation import exact_table
from sordino_client.mechanisms import Engine, noisy_update
from sordino_client.statistics import exact_statistics, grid_step
from sordino_client.training.arithmetic import Performance
from sordino_protocols.feature_statistics import measured_features, noise_std
from sordino_protocols.messages import (
    Admission,
    Evaluation,
    Message,
    Receipt,
    Statistics,
    Update,
    Vector,
)
from sordino_protocols.privacy import Event, event_to_json

Floats = NDArray[np.float64]

_EXPECTED: Mapping[str, type[Message]] = {
    "admission": Admission,
    "statistics": Statistics,
    **{f"round {number}": Update for number in range(1, ROUNDS + 1)},
    "evaluation": Evaluation,
    "receipt": Receipt,
}
# What changes from run to run without a look at a record: coins, what hashes paid releases, and
# what hashes the times of decisions. How many decisions there were is compared.
_DRAWN = {"coins_commitment", "coins", "coins_salt", "ledger_head", "audit_head"}
_SAMPLED = 20


def answers(first: Trial, second: Trial) -> Found:
    """The run goes through at both sites: each request got its kind of answer, no refusal."""
    for trial in (first, second):
        for name, kind in _EXPECTED.items():
            got = type(trial.replies[name])
            if got is not kind:
                return Found(is_passed=False, message=f"{name} was answered with {got.__name__}")
    return Found(is_passed=True, message=f"{len(_EXPECTED)} requests were answered at two sites")


def same_words(first: Trial, second: Trial) -> Found:
    """Beside what was paid for, sites with other records say the same, in as many bytes."""
    different = []
    for name, reply in first.replies.items():
        different += [f"{name}: {field}" for field in _differing(reply, second.replies[name])]
        if len(first.answers[name]) != len(second.answers[name]):
            different.append(f"{name}: its size")
    return Found(
        not different,
        f"records change what was not paid for: {', '.join(different)}"
        if different
        else f"{len(first.replies)} answers of two sites with other records differ in nothing but"
        " what was paid for",
    )


def retries(first: Trial, second: Trial) -> Found:
    """A request that is repeated gets the same bytes: nothing is drawn a second time."""
    changed = [
        name
        for trial in (first, second)
        for name, answer in trial.answers.items()
        if trial.repeated[name] != answer
    ]
    return Found(
        not changed,
        f"asked again, these changed: {', '.join(changed)}"
        if changed
        else f"{len(first.answers)} requests, asked twice, got the same bytes",
    )


def charges(first: Trial, second: Trial) -> Found:
    """The ledger charged what the plan says that statistics, rounds and evaluation cost."""
    plan = trial_job().plan
    events: list[Event] = [
        *([plan.statistics.event] if plan.statistics else []),
        *[plan.require_training().round_event] * ROUNDS,
        plan.require_evaluation().event,
    ]
    expected = [event_to_json(event) for event in events]
    listed = [_charged(trial.replies["receipt"]) for trial in (first, second)]
    return Found(
        all(each == expected for each in listed),
        f"{sum(each == expected for each in listed)} of 2 ledgers charged exactly what the plan"
        f" says that {len(expected)} releases cost",
    )


def site_noise(first: Trial, second: Trial) -> Found:
    """Lanes without a canary hold noise of the planned scale: new in each round, at each site."""
    std = trial_job().plan.require_training().noise_std
    read = [[_lanes(trial, number) / std for number in (1, 2)] for trial in (first, second)]
    out, both = (first.held_out, second.held_out), first.held_out & second.held_out
    alone = [read[site][number][:, out[site]] for site in (0, 1) for number in (0, 1)]
    rounds = [(read[site][0] - read[site][1])[:, out[site]] for site in (0, 1)]
    sites = [(read[0][number] - read[1][number])[:, both] for number in (0, 1)]
    p_value = smallest(
        [
            *(scale_p_value(each) for each in alone),
            *(scale_p_value(each / np.sqrt(2)) for each in (*rounds, *sites)),
        ]
    )
    scales = [
        measured_scale(np.concatenate(each, axis=1)) / norm
        for each, norm in ((alone, 1), (rounds, np.sqrt(2)), (sites, np.sqrt(2)))
    ]
    return Found(
        p_value > FALSE_ALARM,
        f"noise was {scales[0]:.4f} times what is accounted; differences of rounds {scales[1]:.4f}"
        f" and of sites {scales[2]:.4f} times those of independent noise"
        f" (corrected p-value {p_value:.2g})",
    )


def other_noise(first: Trial, second: Trial) -> Found:
    """Statistics and evaluation are their exact values and the planned noise, and differ from them.

    The exact ones are worked out from the made-up records; no weights were trained, so that every
    score is one half.
    """
    noise = [_statistics_noise(trial) for trial in (first, second)]
    tables = [_evaluation_noise(trial) for trial in (first, second)]
    parts = (np.concatenate(noise), np.concatenate(tables))
    p_value = smallest([scale_p_value(part) for part in parts])
    return Found(
        p_value > FALSE_ALARM,
        f"noise of statistics was {measured_scale(parts[0]):.4f} times, of evaluations"
        f" {measured_scale(parts[1]):.4f} times what is accounted"
        f" (corrected p-value {p_value:.2g})",
    )


def site_scale(performance: Performance) -> Found:
    """Records that were not sampled change no bit of an update, however many there are."""
    small, large = (made_up_dataset(records, seed=1) for records in (2 * _SAMPLED, 4 * _SAMPLED))
    coins = np.zeros(len(large.training.labels), dtype=np.bool_)
    coins[:_SAMPLED] = True
    released = [
        _update(dataset, Engine(Replayed(3, coins), performance)) for dataset in (small, large)
    ]
    return Found(
        bool(np.array_equal(released[0], released[1])),
        "with twice as many records, of which the same were sampled, an update changed by"
        f" {float(np.abs(released[0] - released[1]).max()):.3g}",
    )


OF_A_RUN: Mapping[str, Callable[[Trial, Trial], Found]] = {
    "what else a site says": same_words,
    "repeated requests": retries,
    "charges": charges,
    "noise of a site's updates": site_noise,
    "noise of statistics and evaluation": other_noise,
}
"""Probes of runs that went through; `answers` says whether they did."""


def _update(dataset: SiteDataset, engine: Engine) -> Vector:
    """One round that releases what it changed, so that what steps are divided by shows."""
    job = trial_job(update="delta")
    no_coins = np.zeros(job.plan.lanes, dtype=np.bool_)
    run = AdmittedRun("replayed", job, job.digest(), no_coins, bytes(32), nonce="")
    return noisy_update(run, dataset, engine, weights=trial_weights(job), scaling=None)


def _statistics_noise(trial: Trial) -> Floats:
    """Of the feature statistics, in units of the planned standard deviation."""
    plan, reply = trial_job().plan.statistics, trial.replies["statistics"]
    if plan is None or not isinstance(reply, Statistics):
        raise TypeError("the trial has no statistics")
    features = trial.dataset.training.features
    measured = measured_features(trial.dataset.schema)
    exact = exact_statistics(features, np.arange(len(features)), plan, measured=measured)
    noise = reply.vector - exact * grid_step(plan)
    return np.asarray(noise / noise_std(plan, int(measured.sum())))


def _evaluation_noise(trial: Trial) -> Floats:
    """Of the evaluation's table, in units of the planned standard deviation."""
    plan, reply = trial_job().plan.require_evaluation(), trial.replies["evaluation"]
    if not isinstance(reply, Evaluation):
        raise TypeError("the trial has no evaluation")
    labels = trial.dataset.heldout.labels
    exact = exact_table(np.zeros((len(labels), 1)), labels, plan)
    return np.asarray((reply.histogram - exact.ravel()) / plan.noise_multiplier)


def _differing(reply: Message, other: Message) -> list[str]:
    """The fields that differ and are neither paid for nor drawn."""
    if type(reply) is not type(other):
        return ["its kind"]
    paid = next((name for kind, name in PAID.items() if isinstance(reply, kind)), None)
    spared = _DRAWN if paid is None else {*_DRAWN, paid}
    names = [field.name for field in fields(reply) if field.name not in spared]
    return [name for name in names if getattr(reply, name) != getattr(other, name)]


def _charged(reply: Message) -> object:
    return json.loads(reply.events_json) if isinstance(reply, Receipt) else []


def _lanes(trial: Trial, number: int) -> Floats:
    """What a round's lanes read, [groups, lanes]."""
    plan, reply = trial_job().plan.require_training(), trial.replies[f"round {number}"]
    if not isinstance(reply, Update):
        raise TypeError(f"round {number} was answered with {type(reply).__name__}")
    lanes = reply.vector[len(reply.vector) - plan.lane_coordinates :]
    return lanes.astype(np.float64).reshape(plan.lane_groups, plan.lanes)
