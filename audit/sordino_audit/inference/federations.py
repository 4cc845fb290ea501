"""Attribute and property inference from models of whole federations, run for the purpose.

As in a replay, the server's and the sites' own code runs on public or made-up records, with the
job's own noise. To infer an attribute, one federation is attacked and another one, with records of
its own, is the attacker's shadow. To infer a property, a fair coin decides for each federation
whether a word of a column is common or rare at the first site; half of the federations are the
attacker's, and for each of the others a third world is run, in which the word is neither.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from sordino_audit.inference.attribute import (
    Answer,
    People,
    SensitiveColumn,
    Shadow,
    audit_attribute,
)
from sordino_audit.inference.property_of_data import Models, audit_property
from sordino_audit.inference.result import InferenceAudit
from sordino_audit.replay.federation import Federation, RunView, scratch_directory
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import SiteRecords, make_records
from sordino_client.data.table import Table
from sordino_client.training.clipping import outputs
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_protocols.columns import CategoryColumn, width_of
from sordino_protocols.errors import InputError

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Train = Callable[[tuple[Table, ...], tuple[SiteRecords, ...]], RunView]

COMMON, RARE, NEITHER = 0.75, 0.25, 0.5
"""Shares of a site's records with the word, in the worlds of property inference."""

_QUERIES = 32
_LOOK_PENALTY = 1.0


def audit_column(plan: ReplayPlan, column: str, *, noise: Noise) -> InferenceAudit:
    """How much better a column of members is guessed from the job's model than by imputation.

    Args:
        plan: job, records and number of sites; records for twice as many sites and two are needed.
        column: a category among the job's features.
        noise: what the sites' releases rest on; `SecureNoise`, to audit what the product runs.

    Raises:
        InputError: a column that is no category, a task without classes, entities as units, too
            few public records, or a job that cannot be run.
    """
    target = _sensitive_column(plan, column)
    sites = plan.design.sites
    pool = _pool(plan, 2 * sites + 2)
    audited, own = pool[:sites], pool[sites : 2 * sites]
    models = _trained(
        plan, [(tuple(each.training for each in group), group) for group in (audited, own)], noise
    )
    answer, shadow = (_answer(plan, model) for model in models)
    return audit_attribute(
        target,
        answer,
        members=_people([each.training for each in audited]),
        others=_people([*(each.heldout for each in (*audited, *own)), pool[-2].training]),
        public=_people([pool[-1].training, pool[-1].heldout]),
        shadow=Shadow(shadow, _people([each.training for each in own])),
        confidence=plan.design.confidence,
    )


def audit_share(plan: ReplayPlan, column: str, word: str, *, noise: Noise) -> InferenceAudit:
    """How much better one learns from the job's model whether a word is common at a site.

    Args:
        plan: job, records, number of sites and of federations: half of them are the attacker's,
            and a half more are run for the baseline.
        column: a category among the job's features.
        word: one of its words.
        noise: as for `audit_column`.

    Raises:
        InputError: as for `audit_column`, or a word that hardly any or nearly every record has.
    """
    _sensitive_column(plan, column)
    place = _place_of(plan, column, word)
    rng = np.random.default_rng([plan.design.seed, 7])
    pool = _pool(plan, plan.design.sites + 3)
    group, spare = pool[: plan.design.sites], pool[plan.design.sites : -1]
    source = _joined([each.training for each in spare])
    count, half = plan.design.federations, plan.design.federations // 2
    coins = rng.random(count) < 0.5  # noqa: PLR2004 (a fair coin)
    shares = [COMMON if coin else RARE for coin in coins] + [NEITHER] * (count - half)
    size = len(group[0].training.labels)
    firsts = [_with_share(source, place, share, size, rng=rng) for share in shares]
    others = tuple(each.training for each in group[1:])
    views = _trained(plan, [((first, *others), group) for first in firsts], noise)
    queries = pool[-1].training.features[:_QUERIES].astype(np.float64)
    looks = np.stack([_answer(plan, view)(queries)[:, 1:].ravel() for view in views])
    return audit_property(
        f"{column} is {word!r} for most records",
        shadows=Models(looks[:half], coins[:half]),
        released=Models(looks[half:count], coins[half:]),
        unaware=looks[count:],
        confidence=plan.design.confidence,
        penalty=_LOOK_PENALTY,
    )


def _sensitive_column(plan: ReplayPlan, name: str) -> SensitiveColumn:
    schema = plan.schema
    column = schema.columns.get(name) if name != schema.roles.label else None
    if not isinstance(column, CategoryColumn):
        raise InputError(f"{name!r} is no category among the job's features: none can be guessed")
    if schema.task == "number":
        raise InputError("inference is audited of models that tell classes, not numbers")
    if schema.dataset.unit is not None:
        raise InputError("inference is audited where each record is a unit, not an entity")
    encodings = np.eye(width_of(column))
    return SensitiveColumn(name, schema.positions([name])[0], encodings)


def _place_of(plan: ReplayPlan, column: str, word: str) -> int:
    names = plan.schema.feature_names()
    if (feature := f"{column}={word}") not in names:
        raise InputError(f"{word!r} is no word of the column {column!r}")
    return names.index(feature)


def _pool(plan: ReplayPlan, sites: int) -> tuple[SiteRecords, ...]:
    """Records for so many sites, all different."""
    design = plan.design.model_copy(update={"sites": sites})
    return make_records(replace(plan, design=design)).sites


def _trained(
    plan: ReplayPlan,
    worlds: list[tuple[tuple[Table, ...], tuple[SiteRecords, ...]]],
    noise: Noise,
) -> list[RunView]:
    """What each world's federation let out: what its sites learn from, and evaluate on."""
    views = []
    federation: Federation | None = None
    with scratch_directory() as directory:
        try:
            for number, (training, records) in enumerate(worlds):
                if federation is None or not federation.has_room():
                    if federation is not None:
                        federation.close()
                    federation = Federation(
                        directory / f"sites-{number}",
                        plan.job,
                        plan.schema,
                        sites=plan.design.sites,
                        noise=noise,
                    )
                views.append(federation.run(training, records))
        finally:
            if federation is not None:
                federation.close()
    return views


def _answer(plan: ReplayPlan, view: RunView) -> Answer:
    """The released model as its user sees it: log-probabilities of the classes."""

    def answer(features: Floats) -> Floats:
        asked = np.ascontiguousarray(features, dtype=np.float32)
        with single_threaded():
            logits = outputs(
                view.model, plan.job.file.require_model(), asked, scaling=view.scaling
            ).numpy()
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        logs: Floats = log_softmax(logits.astype(np.float64), axis=1)
        return logs

    return answer


def _people(tables: list[Table]) -> People:
    table = _joined(tables)
    return People(table.features.astype(np.float64), table.labels.astype(np.int64))


def _joined(tables: list[Table]) -> Table:
    return Table(
        np.concatenate([np.asarray(each.features) for each in tables]).astype(np.float32),
        np.concatenate([each.labels for each in tables]),
    )


def _with_share(
    source: Table, place: int, share: float, count: int, *, rng: np.random.Generator
) -> Table:
    """So many records of the source, drawn so that this share of them has the word."""
    has_word = source.features[:, place] == 1
    if has_word.all() or not has_word.any():
        raise InputError("every record has that word, or none: it can be neither common nor rare")
    wanted = round(share * count)
    with_word: Rows = rng.choice(np.flatnonzero(has_word), wanted)
    without: Rows = rng.choice(np.flatnonzero(~has_word), count - wanted)
    rows = rng.permutation(np.concatenate([with_word, without]))
    return Table(np.ascontiguousarray(source.features[rows]), source.labels[rows])
