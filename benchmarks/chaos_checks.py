"""What must hold after any number of crashes, looked up in what everybody has on disk.

Four books are compared: the run's log and model at the server, the ledger of every site, the outbox
of every site, and what the taps saw leave.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.chaos_tap import Answered
from sordino_client.config import SiteConfig
from sordino_client.ledger import read_entries
from sordino_client.outbox import Outbox, Release
from sordino_client.run_steps import round_step
from sordino_protocols.messages import Refused, Update
from sordino_protocols.models import FloatVector, initial_weights
from sordino_protocols.signing import TrustStore, load_public_key
from sordino_protocols.wire import open_sealed
from sordino_server.admitted import read_admitted
from sordino_server.aggregation import aggregate
from sordino_server.optimizers import advance, initial_state, released_weights
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement

_BOOKKEEPING = frozenset({"admission", "receipt"})
"""Kept in the outbox, and not paid for."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What the crashes did to one run, as sentences; a run that nothing happened to has none.

    Attributes:
        lost_rounds: rounds that are not in the run's log with every site's update.
        double_charges: steps that a site's ledger has twice.
        other: everything else.
    """

    lost_rounds: tuple[str, ...]
    double_charges: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """What left the sites.

    Attributes:
        releases: different ones.
        again: answers that repeated one of them.
        identical: of those, how many were the same bytes as the outbox keeps.
        changed: the others, each with a word.
    """

    releases: int
    again: int
    identical: int
    changed: tuple[str, ...]


def damage_of(run: RunDirectory, sites: Mapping[str, SiteConfig]) -> Damage:
    """Compare a finished run with the ledgers and outboxes of its sites."""
    state = run.state()
    if state != "done":
        return Damage((), (), (f"{run.run_id} is {state}",))
    plan, events = run.job().plan, list(run.events())
    planned = 0 if plan.training is None else plan.training.rounds
    rounds = {entry["round"]: entry for entry in events if entry["event"] == "round"}
    lost = [
        f"{run.run_id}: round {number}"
        for number in range(1, planned + 1)
        if number not in rounds or rounds[number]["participants"] != sorted(sites)
    ]
    doubled, other = [], []
    for name, config in sites.items():
        paid = Counter(
            str(entry["step"])
            for entry in read_entries(config.ledger_path)
            if entry["kind"] == "reserve" and entry["run_id"] == run.run_id
        )
        doubled += [f"{name}: {run.run_id}/{step}" for step, count in paid.items() if count > 1]
        kept = set(Outbox(config.site.state / "outbox").releases(run.run_id)) - _BOOKKEEPING
        if set(paid) != kept:
            other.append(f"{name}: paid for {sorted(paid)}, keeps {sorted(kept)}")
    other += _statement_problems(run, rounds=planned)
    if planned and not _has_right_model(run, sites):
        other.append(f"{run.run_id}: the model is not what the outboxes' updates make")
    return Damage(tuple(lost), tuple(doubled), tuple(other))


def what_was_sent(site: SiteConfig, answered: Sequence[Answered]) -> Sent:
    """Compare what a tap saw with the site's outbox."""
    server_key = site.site.server_key
    trust = TrustStore({server_key.stem: load_public_key(server_key)})
    stored = _stored(site)
    seen: Counter[str] = Counter()
    identical, changed = 0, []
    for each in answered:
        request = open_sealed(each.request, trust)
        release = stored.get(request.digest)
        if release is None:
            continue  # a question that releases nothing
        seen[request.digest] += 1
        kind = type(request.message).__name__
        if each.answer != release.envelope:
            changed.append(f"{site.site.name}: {kind} answered with other bytes")
        elif seen[request.digest] > 1:
            identical += 1
    again = sum(count - 1 for count in seen.values())
    return Sent(len(seen), again, identical, tuple(changed))


def refusals_in(site: SiteConfig, answered: Sequence[Answered]) -> Counter[str]:
    """How often a site refused, by what it said."""
    trust = TrustStore({site.site.name: _public_key(site)})
    replies = (open_sealed(each.answer, trust).message for each in answered)
    return Counter(each.refusal.value for each in replies if isinstance(each, Refused))


def _public_key(site: SiteConfig) -> Ed25519PublicKey:
    return load_public_key(site.site.signing_key.with_suffix(".pub"))


def _stored(site: SiteConfig) -> dict[str, Release]:
    outbox = Outbox(site.site.state / "outbox")
    releases = (
        outbox.get(run_id, step) for run_id in outbox.runs() for step in outbox.releases(run_id)
    )
    return {each.request_digest: each for each in releases if each is not None}


def _statement_problems(run: RunDirectory, *, rounds: int) -> list[str]:
    statement = run.read(STATEMENT, Statement)
    problems = []
    spent = {receipt.epsilon_spent_pld for receipt in statement.receipts.values()}
    if len(spent) != 1:
        problems.append(f"{run.run_id}: the sites spent {sorted(spent)}")
    for site, receipt in statement.receipts.items():
        if receipt.epsilon_spent_pld != receipt.epsilon_planned:
            problems.append(f"{site}: {run.run_id} spent something else than was planned")
        if len(json.loads(receipt.events_json)) < rounds:
            problems.append(f"{site}: {run.run_id}: the receipt lacks rounds")
    return problems


def _has_right_model(run: RunDirectory, sites: Mapping[str, SiteConfig]) -> bool:
    """Whether the released model is what the updates in the outboxes make of the first weights."""
    job, admitted = run.job(), read_admitted(run)
    plan = job.plan.require_training()
    start = initial_weights(
        job.file.require_model(), admitted.feature_count, seed=bytes.fromhex(job.digest())
    )
    state = initial_state(start, plan)
    units = [admitted.units[site] for site in admitted.sites]
    for number in range(1, plan.rounds + 1):
        updates = [_update(sites[site], run.run_id, number) for site in admitted.sites]
        found = [each for each in updates if each is not None]
        if len(found) < len(updates):
            return False
        state = advance(
            state,
            aggregate(found, units, plan),
            plan=plan,
            optimizer=job.file.require_optimizer(),
            seed=bytes.fromhex(job.digest()),
        )
    return bool(np.allclose(released_weights(state, plan), run.model(), rtol=1e-5, atol=1e-6))


def _update(site: SiteConfig, run_id: str, number: int) -> FloatVector | None:
    """What the outbox has for a round; None if that is no update of this round."""
    release = Outbox(site.site.state / "outbox").get(run_id, round_step(number))
    if release is None:
        return None
    trust = TrustStore({site.site.name: _public_key(site)})
    message = open_sealed(release.envelope, trust).message
    if not isinstance(message, Update) or message.round != number:
        return None
    return message.vector.astype(np.float64)
