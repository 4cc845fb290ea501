"""What synthetic records are good for: models learnt from them, and groups of people among them.

TSTR is the score of a model that was trained on synthetic records and tested on real ones, TRTR of
one that was trained on real ones. Groups matter on their own: noise can take a small group away, or
give it what a large one had ("Matthew" and "Robin Hood" effects; Ganev, Oprisanu & De Cristofaro
2022). All of it reads real records and is for those who hold them.
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.schema import Task
from sordino_protocols.synthesis.shapes import DomainShape, SetShape

Cells = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
ModelKind = Literal["linear", "boosted trees", "random forest", "nearest neighbours"]
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)

_TREES = 100
# As `GradientBoostingClassifier` has them, which is slower: deeper ones learn the noise in tables.
_BOOSTED_DEPTH = 3
_LEAF = 5
_NEIGHBOURS = 25
_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Examples:
    """Encoded records.

    Attributes:
        features: [records, features].
        labels: [records]: 0 or 1, a class, or a number.
    """

    features: Numbers
    labels: Numbers


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Records with the same cells in some columns.

    Attributes:
        cells: one of each of the columns.
        records: how many real ones there are.
        ratio: the synthetic group's share of its table over the real group's.
    """

    cells: tuple[int, ...]
    records: int
    ratio: float


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """How often models answer right for one group of real test records.

    Attributes:
        records: how many of them there are.
        trained_on_real: accuracy of the model that was trained on real records.
        trained_on_synthetic: of the one that was trained on synthetic records.
    """

    records: int
    trained_on_real: float
    trained_on_synthetic: float


class _Model(Protocol):
    """The part of scikit-learn's estimators that is used."""

    def fit(self, features: Numbers, labels: Numbers) -> object: ...
    def predict(self, features: Numbers) -> Numbers: ...


class _Classifier(_Model, Protocol):
    def predict_proba(self, features: Numbers) -> Floats: ...


def model_scores(
    train: Examples,
    test: Examples,
    *,
    task: Task,
    seed: int,
    kinds: Sequence[ModelKind] = MODEL_KINDS,
) -> dict[ModelKind, float]:
    """Train each kind of model, with its library's settings but for the trees, and score it.

    Args:
        train: real records (TRTR) or synthetic ones (TSTR).
        test: real records that no training has seen.
        task: of the labels.
        seed: of the models' own randomness.
        kinds: which models.

    Returns:
        AUC for "binary", accuracy for "classes", the share of explained variance for "number".
    """
    with _one_thread():
        return {kind: _score(kind, train, test, task, seed) for kind in kinds}


def rank_agreement(real: Mapping[ModelKind, float], synthetic: Mapping[ModelKind, float]) -> float:
    """The share of pairs of models of which both scores prefer the same one; 1 if all are.

    Whoever chooses a model by synthetic records wants to know.
    """
    pairs = list(itertools.combinations(sorted(real), 2))
    alike = [(real[a] - real[b]) * (synthetic[a] - synthetic[b]) > 0 for a, b in pairs]
    return sum(alike) / len(alike) if alike else 1.0


def groups_of(cells: Cells, shape: DomainShape, columns: Sequence[int]) -> Codes:
    """One number a record for its cells in these columns, the first column slowest.

    Raises:
        InputError: a column is one of sets.
    """
    starts, codes = tuple(shape.starts()), np.zeros(len(cells), dtype=np.int64)
    for column in columns:
        match shape.columns[column]:
            case SetShape():
                raise InputError("groups are made by single columns, not by a column of sets")
            case single:
                codes = codes * single.fine + cells[:, starts[column]]
    return codes


def subgroups(
    real: Cells, synthetic: Cells, shape: DomainShape, columns: Sequence[int]
) -> tuple[Subgroup, ...]:
    """The groups that occur among real records, the largest first.

    Raises:
        InputError: a column is one of sets.
    """
    ours, theirs = (groups_of(cells, shape, columns) for cells in (real, synthetic))
    values, first, counts = np.unique(ours, return_index=True, return_counts=True)
    positions = [tuple(shape.starts())[column] for column in columns]
    found = [
        Subgroup(
            cells=tuple(real[example, positions].tolist()),
            records=int(count),
            ratio=float(np.mean(theirs == value) / (count / len(ours))),
        )
        for value, example, count in zip(values, first, counts, strict=True)
    ]
    return tuple(sorted(found, key=lambda group: -group.records))


def group_accuracies(
    real: Examples, synthetic: Examples, test: Examples, groups: Codes, *, seed: int
) -> dict[int, GroupAccuracy]:
    """Accuracy of boosted trees for each group of test records, by the group's number.

    Args:
        real: to train on.
        synthetic: to train on.
        test: real records.
        groups: of each test record, as `groups_of` numbers them.
        seed: of the models' own randomness.
    """
    with _one_thread():
        right = [_answers(each, test, seed) == test.labels for each in (real, synthetic)]
    return {
        int(group): GroupAccuracy(
            int(np.count_nonzero(groups == group)),
            *(float(each[groups == group].mean()) for each in right),
        )
        for group in np.unique(groups)
    }


def _one_thread() -> AbstractContextManager[object]:
    """On a busy machine, threads that wait for each other cost far more than these small fits."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _answers(train: Examples, test: Examples, seed: int) -> Numbers:
    if len(np.unique(train.labels)) == 1:
        return np.full(len(test.labels), train.labels[0])
    model = _classifier("boosted trees", seed)
    model.fit(train.features, train.labels)
    return model.predict(test.features)


def _score(kind: ModelKind, train: Examples, test: Examples, task: Task, seed: int) -> float:
    from sklearn.metrics import r2_score, roc_auc_score  # noqa: PLC0415  # slow to import

    if task == "number":
        regressor = _regressor(kind, seed)
        regressor.fit(train.features, train.labels)
        return float(r2_score(test.labels, regressor.predict(test.features)))
    if len(np.unique(train.labels)) == 1:
        # A table may have lost a class; there is nothing to learn then.
        return _CHANCE if task == "binary" else float(np.mean(test.labels == train.labels[0]))
    classifier = _classifier(kind, seed)
    classifier.fit(train.features, train.labels)
    if task == "classes":
        return float(np.mean(classifier.predict(test.features) == test.labels))
    return float(roc_auc_score(test.labels, classifier.predict_proba(test.features)[:, 1]))


def _classifier(kind: ModelKind, seed: int) -> _Classifier:
    from sklearn.ensemble import (  # noqa: PLC0415  # slow to import
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415

    model: _Classifier
    match kind:
        case "linear":
            model = LogisticRegression(max_iter=1_000)
        case "boosted trees":
            model = HistGradientBoostingClassifier(max_depth=_BOOSTED_DEPTH, random_state=seed)
        case "random forest":
            model = RandomForestClassifier(_TREES, min_samples_leaf=_LEAF, random_state=seed)
        case "nearest neighbours":
            model = KNeighborsClassifier(_NEIGHBOURS)
    return model


def _regressor(kind: ModelKind, seed: int) -> _Model:
    from sklearn.ensemble import (  # noqa: PLC0415  # slow to import
        HistGradientBoostingRegressor,
        RandomForestRegressor,
    )
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.neighbors import KNeighborsRegressor  # noqa: PLC0415

    model: _Model
    match kind:
        case "linear":
            model = Ridge()
        case "boosted trees":
            model = HistGradientBoostingRegressor(max_depth=_BOOSTED_DEPTH, random_state=seed)
        case "random forest":
            model = RandomForestRegressor(_TREES, min_samples_leaf=_LEAF, random_state=seed)
        case "nearest neighbours":
            model = KNeighborsRegressor(_NEIGHBOURS)
    return model
