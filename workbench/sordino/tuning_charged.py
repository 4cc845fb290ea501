"""Trials in the federation: each is a job like any other, and pays for itself.

The bill is made before the first trial is submitted: what all of them cost a site together, by the
same sums of Rényi curves that its ledger keeps. What must stay true: nothing is submitted that the
bill does not list, and the sites' own ledgers have the last word on every trial.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sordino.tuning import Measurement, Outcome
from sordino.tuning_settings import Trial
from sordino_protocols.accounting import renyi_curve, total
from sordino_protocols.errors import SordinoError
from sordino_protocols.job import Job
from sordino_protocols.pricing import price

if TYPE_CHECKING:
    from sordino.connection import Connection, Json

Follow = Callable[[Iterable["Json"]], Iterable["Json"]]


@dataclass(frozen=True, slots=True)
class SiteBill:
    """What all trials would cost one site.

    Attributes:
        site: its name.
        trials: how many of them ask this site.
        epsilon: of them together, at the smallest delta among them.
        left: of its lifetime budget; None where it did not say.
        refusal: why it would refuse one of them, with the rule; None if it would take each alone.
    """

    site: str
    trials: int
    epsilon: float
    left: float | None
    refusal: str | None

    @property
    def fits(self) -> bool:
        """Whether the budget suffices, judged on the safe side.

        At a delta of 3e-4 or less, what was spent grows by no more than the epsilon of the new
        curve alone; mostly by less, so this may say no where the ledger would still say yes. One
        trial alone was judged by the ledger itself.
        """
        if self.refusal is not None or self.left is None:
            return False
        return self.trials == 1 or self.epsilon <= self.left


def make_bill(jobs: Sequence[Job], quotes: Sequence["Json"]) -> tuple[SiteBill, ...]:
    """Add up what sites said that trials cost.

    Args:
        jobs: the trials.
        quotes: for each, what `Connection.price` answered.
    """
    asked: dict[str, list[Job]] = {}
    refusals: dict[str, str] = {}
    left: dict[str, float] = {}
    for job, answer in zip(jobs, quotes, strict=True):
        for site, quote in _table(answer, "quotes").items():
            facts = quote if isinstance(quote, Mapping) else {}
            asked.setdefault(site, []).append(job)
            left[site] = float(str(facts["budget_left"]))
            if facts["refusal"] is not None:
                refusals.setdefault(site, f"{facts['refusal']} ({facts['rule']})")
        for kind in ("refused", "silent"):
            for site, why in _table(answer, kind).items():
                asked.setdefault(site, []).append(job)
                refusals.setdefault(site, f"{kind}: {why}")
    return tuple(
        SiteBill(site, len(own), _together(own), left.get(site), refusals.get(site))
        for site, own in sorted(asked.items())
    )


def run_all(
    connection: "Connection", trials: Sequence[Trial], jobs: Sequence[Job], *, follow: Follow
) -> tuple[Outcome, ...]:
    """Submit every trial, one after the other, and read its noisy evaluation.

    Raises:
        SordinoError: a trial did not come to its end. It names the run; trials before it are paid
            for, and `sordino job show` still knows them.
    """
    return tuple(
        _run(connection, trial, job, follow=follow) for trial, job in zip(trials, jobs, strict=True)
    )


def _run(connection: "Connection", trial: Trial, job: Job, *, follow: Follow) -> Outcome:
    run_id = connection.submit(job)
    for _ in follow(connection.watch(run_id)):
        pass
    shown = connection.show(run_id)
    if shown["state"] != "done":
        reason = shown.get("reason", "no reason given")
        raise SordinoError(f"trial {trial.number}: run {run_id} {shown['state']}: {reason}")
    statement: object = json.loads(connection.fetch(run_id, "statement.json"))
    metrics = read_metrics(statement)
    noise_multiplier = job.plan.require_training().noise_multiplier
    return Outcome(trial, price(job).epsilon_pld, noise_multiplier, metrics, run_id)


def read_metrics(statement: object) -> dict[str, Measurement]:
    """The noisy evaluation of a statement, as its JSON has it.

    Raises:
        SordinoError: there is none.
    """
    metrics = _table(_table(statement, "evaluation"), "metrics")
    if not metrics:
        raise SordinoError("the statement has no evaluation")
    found = {}
    for name in metrics:
        value, lower, upper = (
            float(str(_table(metrics, name)[key])) for key in ("value", "lower", "upper")
        )
        found[name] = Measurement(value, interval=(lower, upper))
    return found


def _together(jobs: Sequence[Job]) -> float:
    delta = min(job.file.require_privacy().delta for job in jobs)
    return total([renyi_curve(job.plan.event) for job in jobs]).epsilon(delta)


def _table(value: object, key: str) -> Mapping[str, object]:
    below = value.get(key) if isinstance(value, Mapping) else None
    return below if isinstance(below, Mapping) else {}
