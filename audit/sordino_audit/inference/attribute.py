"""Attribute inference: guess a sensitive column from the other columns, the label and the model.

The attack asks the model about the record with each possible value in the sensitive column. The
value under which the record's true label is likeliest is the model's suggestion (Yeom et al. 2018,
sec. 5), how likely the value is for such a record anyway is the prior (Fredrikson et al. 2014), and
how much to believe either is learnt from a shadow: a model that the attacker trained in the same
way on records of its own, whose values it knows. A model that remembers nothing is believed
nothing, and then the attack is as good as the baseline.

The baseline is imputation: the same other columns and the label, a model of the sensitive column
that was fitted to public records, and no access to the audited model (Jayaraman & Evans 2022).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import log_softmax

from sordino_audit.inference.result import TOLERANCE, Guesses, InferenceAudit, judge
from sordino_audit.inference.softmax_regression import fit

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]
Answer = Callable[[Floats], Floats]
"""A model as its user sees it: features (records, width) to log-probabilities (records, labels)."""

_LEAST_LOG = math.log(0.01)
_BLIND_SPOTS = (
    "Attributes other than this one, and several at once, were not guessed.",
    "An attacker with better public records than the baseline's can guess better.",
    "An attacker who sees a site's updates, and not only the model, can guess better.",
)


@dataclass(frozen=True, slots=True, eq=False)
class SensitiveColumn:
    """A column that an attacker would like to know.

    Attributes:
        name: of the column.
        start: its first place among the encoded features.
        encodings: what stands there for each of its values, shape (values, places).
    """

    name: str
    start: int
    encodings: Floats

    def __post_init__(self) -> None:
        if self.encodings.ndim != 2 or len(self.encodings) < 2 or not self.encodings.size:  # noqa: PLR2004
            raise ValueError(
                f"expected the encodings of two values or more, not {self.encodings.shape}"
            )

    @property
    def places(self) -> slice:
        """Where the column stands among the encoded features."""
        return slice(self.start, self.start + self.encodings.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Records whose sensitive value is known to the auditor, and to no attacker.

    Attributes:
        features: encoded, with the sensitive column, shape (records, width).
        labels: what the audited model predicts, classes from 0, shape (records,).
    """

    features: Floats
    labels: Classes

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:  # noqa: PLR2004
            raise ValueError(
                f"expected features (records, width) and a label each, not {self.features.shape} "
                f"and {self.labels.shape}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """A model of the attacker's own, trained as the audited one was.

    Attributes:
        model: as its user sees it.
        members: the records that it was trained on.
    """

    model: Answer
    members: People


def audit_attribute(
    column: SensitiveColumn,
    model: Answer,
    *,
    members: People,
    others: People | None,
    public: People,
    shadow: Shadow,
    confidence: float,
    penalty: float = 0.01,
    tolerance: float = TOLERANCE,
) -> InferenceAudit:
    """How much better a column is guessed with the model than by imputation.

    Args:
        column: what is guessed.
        model: the audited model.
        members: records that it was trained on.
        others: records like them that it was not trained on; None where there are none.
        public: records that the imputation is fitted to, of the shadow's none.
        shadow: what the attacker learns on how much to believe a model.
        confidence: of the intervals.
        penalty: of the imputation; see `softmax_regression.fit`.
        tolerance: advantage from which the verdict is `SUSPECT`.

    Raises:
        ValueError: a record whose sensitive places hold none of the encodings, a label that the
            model has no answer for, or numbers outside their ranges.
    """
    labels = model(public.features[:1]).shape[1]
    imputation = fit(
        known_columns(public, column, labels),
        true_values(public.features, column),
        class_count=len(column.encodings),
        penalty=penalty,
    )

    def evidence(asked: Answer, people: People) -> Evidence:
        return Evidence(
            prior=imputation.log_probabilities(known_columns(people, column, labels)),
            likelihood=label_likelihoods(asked, people, column),
            truth=true_values(people.features, column),
        )

    belief = fit_belief(evidence(shadow.model, shadow.members))
    return judge(
        "attribute",
        column.name,
        guess(evidence(model, members), belief),
        others=None if others is None else guess(evidence(model, others), belief),
        confidence=confidence,
        tolerance=tolerance,
        blind_spots=_BLIND_SPOTS,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What speaks for each value of each record.

    Attributes:
        prior: log-probability by imputation, shape (records, values).
        likelihood: log-probability of the record's label under each value, same shape.
        truth: the value, shape (records,).
    """

    prior: Floats
    likelihood: Floats
    truth: Classes


@dataclass(frozen=True, slots=True)
class Belief:
    """How much an attacker believes in the prior and in a model's suggestion; 0 is not at all."""

    in_prior: float
    in_model: float


def fit_belief(evidence: Evidence) -> Belief:
    """The belief under which the true values are likeliest: a conditional logit (McFadden 1974).

    Where that is not finite, since the values are told apart without an error, it is 50.
    """
    rows = np.arange(len(evidence.truth))

    def loss(weights: Floats) -> float:
        logs = log_softmax(weights[0] * evidence.prior + weights[1] * evidence.likelihood, axis=1)
        return -float(np.mean(logs[rows, evidence.truth])) if len(rows) else 0.0

    found = optimize.minimize(loss, np.array([1.0, 0.0]), bounds=[(0, 50), (0, 50)])
    return Belief(float(found.x[0]), float(found.x[1]))


def guess(evidence: Evidence, belief: Belief) -> Guesses:
    """Which records the attack and the baseline guess right."""
    scores = belief.in_prior * evidence.prior + belief.in_model * evidence.likelihood
    return Guesses(
        attack=scores.argmax(axis=1) == evidence.truth,
        baseline=evidence.prior.argmax(axis=1) == evidence.truth,
    )


def label_likelihoods(model: Answer, people: People, column: SensitiveColumn) -> Floats:
    """Log-probability of each record's true label under each value, shape (records, values).

    An answer below 1 % counts as 1 %: how sure a model is that a label is wrong says little.
    """
    rows = np.arange(len(people.labels))
    found = []
    for encoding in column.encodings:
        supposed = people.features.copy()
        supposed[:, column.places] = encoding
        found.append(model(supposed)[rows, people.labels])
    return np.maximum(np.stack(found, axis=1), _LEAST_LOG)


def true_values(features: Floats, column: SensitiveColumn) -> Classes:
    """Which value stands in the sensitive column of each record, shape (records,).

    Raises:
        ValueError: a record whose sensitive places hold none of the encodings.
    """
    stands = features[:, np.newaxis, column.places]
    is_value = np.all(np.isclose(stands, column.encodings, atol=1e-6), axis=2)
    if not np.all(is_value.sum(axis=1) == 1):
        raise ValueError(f"a record's {column.name} is none of the values, or several of them")
    values: Classes = is_value.argmax(axis=1).astype(np.int64)
    return values


def known_columns(people: People, column: SensitiveColumn, labels: int) -> Floats:
    """What an attacker knows of each record: all other columns, and the label as a category."""
    rest = np.delete(people.features, column.places, axis=1)
    return np.concatenate([rest, np.eye(labels)[people.labels]], axis=1)
