"""What the sites of a replay hold, and the canaries that come and go at one of them.

Made once, from the plan's seed: every federation has the same records but for the canaries, so all
that tells two federations apart is who was inserted, and the noise. Site 0 is the target; poisons
lie at site 1, as a malicious participant would put them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.replay.made_up import Generator, Style, followed_labels, made_up_features
from sordino_audit.replay.plan import CanaryKind, ReplayPlan
from sordino_client.data.connectors import load_table
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table
from sordino_client.entities import Entities
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema, Task

Labels = NDArray[np.float32]
Coins = NDArray[np.bool_]

_LIKE_RECORDS: frozenset[CanaryKind] = frozenset({"typical", "mislabelled"})
"""Kinds that are made of records like those of the sites."""
_RIDGE = 1.0
_LIKELY = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class SiteRecords:
    """One site's records: what it learns from and what it evaluates on."""

    training: Table
    heldout: Table


@dataclass(frozen=True, slots=True, eq=False)
class ReplayRecords:
    """Everything that the federations of a replay are made of.

    Attributes:
        sites: the target first.
        canaries: that coins insert at the target: one record each.
        strangers: as many of the same kinds, which nobody ever holds.
        poisons: a wrongly labelled copy of each canary.
    """

    sites: tuple[SiteRecords, ...]
    canaries: Table
    strangers: Table
    poisons: Table

    def training(self, *, inserted: Coins, poisons: int) -> tuple[Table, ...]:
        """What each site learns from.

        Args:
            inserted: [canaries], which of them the target holds.
            poisons: copies of each poison at the next site.
        """
        tables = [site.training for site in self.sites]
        tables[0] = with_units(tables[0], _chosen(self.canaries, np.flatnonzero(inserted)))
        copies = np.repeat(np.arange(len(self.poisons.labels)), poisons)
        tables[1] = with_units(tables[1], _chosen(self.poisons, copies))
        return tuple(tables)


def make_records(plan: ReplayPlan) -> ReplayRecords:
    """The records of a plan, the same for the same plan.

    Raises:
        InputError: the public records are too few, or cannot be read.
    """
    rng = np.random.default_rng([plan.design.seed, 0])
    heldout = _heldout_units(plan)
    each = plan.units + heldout
    count = 2 * plan.design.canaries_per_kind
    spare = count * sum(kind in _LIKE_RECORDS for kind in plan.design.canaries)
    base, typical = _sources(plan, plan.design.sites * each, spare, rng=rng)
    sites = []
    for index in range(plan.design.sites):
        start = index * each
        sites.append(
            SiteRecords(
                _units(base, np.arange(start, start + plan.units)),
                _units(base, np.arange(start + plan.units, start + each)),
            )
        )
    like = [kind for kind in plan.design.canaries if kind in _LIKE_RECORDS]
    natural = {
        kind: _chosen(typical, np.arange(at * count, (at + 1) * count))
        for at, kind in enumerate(like)
    }
    made = [_canaries(kind, plan, base, natural, rng=rng) for kind in plan.design.canaries]
    half = plan.design.canaries_per_kind
    canaries = _joined([_chosen(each, np.arange(half)) for each in made])
    strangers = _joined([_chosen(each, np.arange(half, 2 * half)) for each in made])
    opposite = _wrong(canaries.labels, plan, rng=rng)
    return ReplayRecords(tuple(sites), canaries, strangers, Table(canaries.features, opposite))


def with_units(table: Table, more: Table) -> Table:
    """The table with every record of `more` as one unit more."""
    features = _stacked([table.features, more.features])
    labels = np.concatenate([table.labels, more.labels])
    if table.entities is None:
        return Table(features, labels)
    old, rows, added = table.entities, len(table.labels), len(more.labels)
    order = np.concatenate([old.order, np.arange(rows, rows + added)])
    starts = np.concatenate([old.starts, old.starts[-1] + np.arange(1, added + 1)])
    return Table(features, labels, Entities(order, starts))


def _sources(plan: ReplayPlan, units: int, spare: int, *, rng: Generator) -> tuple[Table, Table]:
    """Records for the sites, so many units; and records like them for canaries, one a unit."""
    outputs = plan.job.file.require_model().outputs
    if plan.dataset is not None:
        return _public(plan, units, spare, rng=rng)
    rule = int(rng.integers(2**32))
    rows = units * plan.schema.dataset.max_records_per_unit
    features = made_up_features(plan.schema, rows + spare, style="typical", rng=rng)
    labels = followed_labels(
        plan.schema, features, outputs=outputs, rng=np.random.default_rng(rule)
    )
    starts = np.arange(0, rows + 1, plan.schema.dataset.max_records_per_unit)
    is_grouped = plan.schema.dataset.unit is not None
    entities = Entities(np.arange(rows), starts) if is_grouped else None
    base = Table(features[:rows], labels[:rows], entities)
    return base, Table(features[rows:], labels[rows:])


def _public(plan: ReplayPlan, units: int, spare: int, *, rng: Generator) -> tuple[Table, Table]:
    if plan.dataset is None:
        raise AssertionError("made-up records come from elsewhere")
    table = load_table(plan.dataset)
    columns = plan.job.file.job.columns
    if columns:
        table = table.select(plan.dataset.positions(columns))
    there = len(table.labels) if table.entities is None else len(table.entities)
    if there < units + spare:
        raise InputError(
            f"a replay of {plan.design.sites} sites with {plan.units} units each and "
            f"{len(plan.design.kinds)} canaries needs {units + spare} units; there are fewer:"
            " set fewer units or canaries in the design"
        )
    drawn = rng.permutation(there)
    spared = _units(table, drawn[units : units + spare])
    first = np.arange(spare) if spared.entities is None else spared.entities.starts[:-1]
    return _units(table, drawn[:units]), _chosen(spared, first)


def _canaries(
    kind: CanaryKind,
    plan: ReplayPlan,
    base: Table,
    natural: Mapping[CanaryKind, Table],
    *,
    rng: Generator,
) -> Table:
    """Canaries of one kind: those to insert, then as many strangers."""
    count = 2 * plan.design.canaries_per_kind
    if kind == "typical":
        return natural[kind]
    if kind == "mislabelled":
        return Table(natural[kind].features, _wrong(natural[kind].labels, plan, rng=rng))
    style: Style = "plain" if kind == "blank" else "corner"
    features = made_up_features(plan.schema, count, style=style, rng=rng)
    likely = _likely_labels(
        base, features, plan.schema, outputs=plan.job.file.require_model().outputs
    )
    return Table(features, _wrong(likely, plan, rng=rng))


def _likely_labels(base: Table, features: FeatureArray, schema: Schema, *, outputs: int) -> Labels:
    """What a linear model of the records says: a canary has another label."""
    known, asked = base.features.astype(np.float64), features.astype(np.float64)
    targets = base.labels.astype(np.float64)[:, np.newaxis]
    if schema.task == "classes":
        targets = np.eye(outputs)[base.labels.astype(np.int64)]
    gram = known.T @ known + _RIDGE * np.eye(known.shape[1])
    mean = targets.mean(axis=0)
    said = mean + asked @ np.linalg.solve(gram, known.T @ (targets - mean))
    match schema.task:
        case "binary":
            return np.asarray(said[:, 0] > _LIKELY, dtype=np.float32)
        case "classes":
            return np.asarray(said.argmax(axis=1), dtype=np.float32)
        case "number":
            return np.asarray(np.clip(said[:, 0], -1, 1), dtype=np.float32)


def _wrong(labels: Labels, plan: ReplayPlan, *, rng: Generator) -> Labels:
    """Labels that differ from these, as far as the task allows."""
    task: Task = plan.schema.task
    match task:
        case "binary":
            return 1 - labels
        case "classes":
            classes = plan.job.file.require_model().outputs
            shift = rng.integers(1, classes, len(labels)) if classes > 1 else 0
            return ((labels.astype(np.int64) + shift) % classes).astype(np.float32)
        case "number":
            return np.where(labels > 0, -1.0, 1.0).astype(np.float32)


def _heldout_units(plan: ReplayPlan) -> int:
    share = plan.schema.dataset.holdout_fraction
    return max(8, round(plan.units * share / (1 - share)))


def _units(table: Table, chosen: NDArray[np.int64]) -> Table:
    """These units, in this order."""
    if table.entities is None:
        return _chosen(table, chosen)
    old = table.entities
    rows = [old.order[old.starts[each] : old.starts[each + 1]] for each in chosen.tolist()]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in rows])]).astype(np.int64)
    kept = np.concatenate(rows)
    return Table(
        table.features[kept],
        table.labels[kept],
        Entities(np.arange(len(kept)), starts),
    )


def _chosen(table: Table, rows: NDArray[np.int64]) -> Table:
    return Table(table.features[rows], table.labels[rows])


def _stacked(parts: Sequence[FeatureArray]) -> FeatureArray:
    rows = sum(len(each) for each in parts)
    stacked: FeatureArray = np.empty((rows, parts[0].shape[1]), dtype=parts[0].dtype)
    np.concatenate(parts, out=stacked)
    return stacked


def _joined(tables: list[Table]) -> Table:
    return Table(
        _stacked([each.features for each in tables]),
        np.concatenate([each.labels for each in tables]),
    )
