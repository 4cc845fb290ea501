"""What dies at any moment: `kill -9` of any process of a federation, and what came of it.

`python -m benchmarks.chaos [--json] [--quick] [--runs N] [--kills N] [--seed N]`. Real processes on
this machine: a server with its SuperLink, SuperExec and server app, and two sites with a link and a
vault each. They are killed at random moments of the rounds, and whenever a run that trains or one
that synthesizes enters a state; the keeper of `sordino_deploy` restarts what ended, as systemd
would. Afterwards four books are compared: the server's runs, the sites' ledgers, their outboxes,
and what taps between link and vault saw leave (`chaos_checks`).

Seconds to resume are counted from the kill, not from the restart. A run killed at a random moment
has resumed when its log has two more rounds or states than it had (or it is done): the first may
have been under way. One killed on entering a state has when it leaves that state.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos_checks import damage_of, refusals_in, what_was_sent
from benchmarks.chaos_federation import ChaosFederation, NeverError, Victim, chaos_federation
from benchmarks.reporting import Figure, report
from sordino.synthesis_jobs import Wish, wished_job
from sordino_deploy.local import LocalFederation
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.logs import configure_logging
from sordino_protocols.pricing import resolve
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState
from sordino_protocols.schema import Schema

SITES = ("cleveland", "hungarian")
RESUME_BAR_SECONDS = 30.0
HEARTBEAT_BAR_SECONDS = 60.0
_WAITS_FOR_HEARTBEAT = frozenset({Victim.LINK, Victim.SITE_HOST, Victim.EVERYTHING})
_LONGEST_PAUSE_SECONDS = 2.0
_STEPS_ON = 2
_ROUNDS_A_KILL = 12  # what goes by before it, and until the run has gone on
_ENTERED = (
    RunState.ADMITTING,
    RunState.MEASURING,
    RunState.TRAINING,
    RunState.EVALUATING,
    RunState.SETTLING,
)
_ORDER = (*_ENTERED[:-1], RunState.TABULATING, RunState.SETTLING)
_POLICY = """
[datasets.heart]
submitters = ["scientist"]
kinds = ["train", "synthesize"]
models = ["logistic"]
max_epsilon = 4.0
max_delta = 1e-5
max_rounds = 1000
min_expected_batch = 20
[budgets.heart]
epsilon = 400.0
delta = 1e-5
"""
_JOB = """
[job]
name = "chaos"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 2.0
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {rounds}
sampling_rate = 1.0
clipping_norm = 0.5
[optimizer]
learning_rate = 1.0
[statistics]
kind = "moments"
share = 0.2
[audit]
lanes = 50
[cohort]
quorum = 2
deadline_seconds = 900.0
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, and how long the run needed to go on.

    Attributes:
        victim: what was killed.
        state: of the run at that moment.
        is_random: at a random moment, not on entering the state.
        seconds: from the kill until the run had gone on; None if it never did.
    """

    victim: Victim
    state: RunState
    is_random: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one run.

    Attributes:
        entering: whom to kill as soon as the run has entered a state.
        random: whom to kill at random moments of its rounds.
        rounds: how many it has; 0: it synthesizes.
    """

    entering: tuple[tuple[RunState, Victim], ...]
    random: tuple[Victim, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all of it."""

    kills: tuple[Kill, ...]
    lost_rounds: tuple[str, ...]
    double_charges: tuple[str, ...]
    other: tuple[str, ...]
    releases: int
    again: int
    identical: int
    changed: tuple[str, ...]
    refusals: Counter[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one run with a handful of kills")
    parser.add_argument("--runs", type=int, default=len(Victim), help="each with a kill a state")
    parser.add_argument("--kills", type=int, default=40, help="at random moments")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    configure_logging(level="warning", stream=sys.stderr)
    full = full_plans(chosen.runs, kills=chosen.kills, seed=chosen.seed)
    plans = quick_plans() if chosen.quick else full
    with tempfile.TemporaryDirectory() as scratch:
        outcome = execute(Path(scratch), plans, seed=chosen.seed, told=_tell)
    for problem in (*outcome.lost_rounds, *outcome.double_charges, *outcome.other):
        sys.stderr.write(f"{problem}\n")
    randomly = sum(len(plan.random) for plan in plans)
    return report(
        figures(outcome, randomly=randomly), context(outcome, seed=chosen.seed), as_json=chosen.json
    )


def quick_plans() -> list[Plan]:
    """One run: a few kinds, at the transitions that are the hardest to come back to."""
    entering = (
        (RunState.ADMITTING, Victim.SERVER_APP),
        (RunState.MEASURING, Victim.VAULT),
        (RunState.TRAINING, Victim.SERVER),
        (RunState.EVALUATING, Victim.SUPEREXEC),
    )
    return [Plan(entering, (Victim.LINK, Victim.EVERYTHING), rounds=24)]


def full_plans(runs: int, *, kills: int, seed: int) -> list[Plan]:
    """Runs in which every state is entered with a kill, and `kills` more at random moments.

    After as many runs as there are victims, each was killed at the entering of each state. As many
    runs that synthesize follow, each with a kill while the sites make their tables.
    """
    victims = list(Victim)
    moments = [victims[number % len(victims)] for number in range(kills)]
    random.Random(seed).shuffle(moments)
    plans = []
    for run in range(runs):
        share = tuple(moments[run::runs])
        entering = tuple(
            (state, victims[(run + place) % len(victims)]) for place, state in enumerate(_ENTERED)
        )
        plans.append(Plan(entering, share, rounds=_ROUNDS_A_KILL * (len(share) + 1)))
    tables = [Plan(((RunState.TABULATING, each),), (), rounds=0) for each in victims[:runs]]
    return [*plans, *tables]


def execute(
    directory: Path,
    plans: Sequence[Plan],
    *,
    seed: int,
    told: Callable[[Kill], None] = lambda _: None,
    prepared: Callable[[LocalFederation], None] = lambda _: None,
) -> Outcome:
    """Do all of it, and look at what is left.

    Args:
        directory: for everything; must be empty or absent.
        plans: a run each.
        seed: of what chooses moments, and victims among equals.
        told: hears of each kill that was survived.
        prepared: called when the files are there, and nothing runs yet.
    """
    kills: list[Kill] = []
    rng = random.Random(seed)
    with chaos_federation(directory, SITES, policy=_POLICY, rng=rng, prepared=prepared) as running:
        run_ids = []
        for plan in plans:
            run_id, survived = _endure(running, plan, rng=rng, told=told)
            run_ids.append(run_id)
            kills += survived
        sites = {name: running.federation.layout.site_config(name) for name in SITES}
        damage = [damage_of(running.run(run_id), sites) for run_id in run_ids]
        answered = {name: tap.answered for name, tap in running.taps.items()}
    sent = [what_was_sent(sites[name], each) for name, each in answered.items()]
    refusals = [refusals_in(sites[name], each) for name, each in answered.items()]
    return Outcome(
        kills=tuple(kills),
        lost_rounds=tuple(each for one in damage for each in one.lost_rounds),
        double_charges=tuple(each for one in damage for each in one.double_charges),
        other=tuple(each for one in damage for each in one.other),
        releases=sum(each.releases for each in sent),
        again=sum(each.again for each in sent),
        identical=sum(each.identical for each in sent),
        changed=tuple(word for each in sent for word in each.changed),
        refusals=sum(refusals, Counter()),
    )


def _endure(
    running: ChaosFederation,
    plan: Plan,
    *,
    rng: random.Random,
    told: Callable[[Kill], None],
) -> tuple[str, list[Kill]]:
    """Submit a job and kill as planned until its run is over."""
    kills: list[Kill] = []

    def note(kill: Kill) -> None:
        if kill.state not in TERMINAL_RUN_STATES:  # which is no moment of the run
            kills.append(kill)
            told(kill)

    run_id = running.connection.submit(_job(plan, running.schema))
    run = running.run(run_id)
    for state, victim in plan.entering:
        _wait_for(running, run_id, state)
        if run.state() in TERMINAL_RUN_STATES:
            break  # there may be nobody left to kill
        note(_kill(running, run_id, victim, is_random=False))
        for each in plan.random if state is RunState.TRAINING else ():
            _let_pass(running, rng.uniform(0, _LONGEST_PAUSE_SECONDS))
            if run.state() not in TERMINAL_RUN_STATES:
                note(_kill(running, run_id, each, is_random=True))
    running.pump(lambda: run.state() in TERMINAL_RUN_STATES, waiting_for=f"the end of {run_id}")
    return run_id, kills


def _job(plan: Plan, schema: Schema) -> Job:
    if plan.rounds:
        return resolve(parse_toml(_JOB.format(rounds=plan.rounds), JobFile, source="chaos"))
    wish = Wish(dataset="heart", epsilon=1.0, delta=1e-5)
    return resolve(wished_job(wish, SITES, schema))


def _wait_for(running: ChaosFederation, run_id: str, state: RunState) -> None:
    run, later = running.run(run_id), set(_ORDER[_ORDER.index(state) :]) | TERMINAL_RUN_STATES
    running.pump(lambda: run.state() in later, waiting_for=f"{run_id} to be {state}")


def _let_pass(running: ChaosFederation, seconds: float) -> None:
    until = time.monotonic() + seconds
    running.pump(lambda: time.monotonic() > until, waiting_for="a moment")


def _kill(running: ChaosFederation, run_id: str, victim: Victim, *, is_random: bool) -> Kill:
    run = running.run(run_id)
    running.kill(victim)
    killed_at, state, before = time.monotonic(), run.state(), _steps(running, run_id)
    steps = _STEPS_ON if is_random else 1
    try:
        running.pump(
            lambda: _steps(running, run_id) >= before + steps or run.state() in TERMINAL_RUN_STATES,
            waiting_for=f"{run_id} to go on after the {victim} was killed in {state}",
        )
    except NeverError as error:
        sys.stderr.write(f"{error}\n")
        return Kill(victim, state, is_random, None)
    return Kill(victim, state, is_random, time.monotonic() - killed_at)


def _steps(running: ChaosFederation, run_id: str) -> int:
    events = running.run(run_id).events()
    return sum(event["event"] in {"state", "round"} for event in events)


def figures(outcome: Outcome, *, randomly: int) -> list[Figure]:
    """What was measured, with its bars.

    Args:
        outcome: of all runs.
        randomly: how many kills at random moments there had to be.
    """
    resumed = [(kill.victim, kill.seconds) for kill in outcome.kills if kill.seconds is not None]
    slow = [seconds for victim, seconds in resumed if victim in _WAITS_FOR_HEARTBEAT]
    fast = [seconds for victim, seconds in resumed if victim not in _WAITS_FOR_HEARTBEAT]
    lost = len(outcome.lost_rounds)
    return [
        Figure("kills", len(outcome.kills)),
        Figure(
            "of them at a random moment", sum(kill.is_random for kill in outcome.kills), randomly
        ),
        Figure("resumed", len(resumed), len(outcome.kills)),
        Figure("lost rounds", lost, 0, is_upper_bar=True),
        Figure("double charges", len(outcome.double_charges), 0, is_upper_bar=True),
        Figure("books that disagree", len(outcome.other), 0, is_upper_bar=True),
        Figure("releases", outcome.releases),
        Figure("releases sent again", outcome.again),
        Figure("of them identical", outcome.identical, outcome.again),
        Figure(
            "answers that are not what the outbox has", len(outcome.changed), 0, is_upper_bar=True
        ),
        Figure("refusals", sum(outcome.refusals.values()), 0, is_upper_bar=True),
        Figure("seconds to resume, median", statistics.median([*slow, *fast])),
        Figure("seconds to resume, longest", max(fast), RESUME_BAR_SECONDS, is_upper_bar=True),
        Figure(
            "seconds to resume a link, longest", max(slow), HEARTBEAT_BAR_SECONDS, is_upper_bar=True
        ),
    ]


def context(outcome: Outcome, *, seed: int) -> dict[str, object]:
    """What the figures were measured in, and the seconds of each kind."""
    seconds = {
        str(victim): sorted(
            round(kill.seconds, 1)
            for kill in outcome.kills
            if kill.victim is victim and kill.seconds is not None
        )
        for victim in Victim
    }
    return {
        "sites": len(SITES),
        "seed": seed,
        "killed in state": dict(Counter(str(kill.state) for kill in outcome.kills)),
        "seconds to resume, by victim": {name: each for name, each in seconds.items() if each},
        "answers that are not what the outbox has": list(outcome.changed),
        "refusals": dict(outcome.refusals),
    }


def _tell(kill: Kill) -> None:
    when = "at a random moment of" if kill.is_random else "on entering"
    how = "never went on" if kill.seconds is None else f"{kill.seconds:.1f} s"
    sys.stderr.write(f"{kill.victim} killed {when} {kill.state}: {how}\n")


if __name__ == "__main__":
    sys.exit(main())
