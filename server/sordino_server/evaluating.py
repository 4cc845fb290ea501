"""What the sites' noisy tables say together: the figures of the task, with their intervals."""

import math
from collections.abc import Mapping

import numpy as np

from sordino_protocols.models import FloatVector
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.score_curves import calibration, roc_curve
from sordino_protocols.scorecard import (
    ClassScorecard,
    Estimate,
    NoisyTable,
    figures,
    task_scorecard,
)
from sordino_server.statement import (
    CalibrationBinFacts,
    EstimateFacts,
    EvaluationFacts,
    RocPointFacts,
)


def evaluation_facts(
    plan: EvaluationPlan,
    tables: Mapping[str, FloatVector],
    *,
    label_scale: float,
    confidence: float,
) -> EvaluationFacts:
    """What is published of an evaluation.

    Args:
        plan: what the sites counted.
        tables: by site, flat; at least one.
        label_scale: what an error of 1 in a scaled label is, in the label's units.
        confidence: of each interval.
    """
    whole = np.sum([*tables.values()], axis=0).reshape(plan.shape)
    # Each site added noise of its own.
    noise_std = plan.noise_multiplier * math.sqrt(len(tables))
    card = task_scorecard(plan.loss, whole, noise_std=noise_std, confidence=confidence)
    scale = label_scale if plan.loss == "squared" else 1.0
    recalls = card.recalls if isinstance(card, ClassScorecard) else ()
    facts = EvaluationFacts(
        loss=plan.loss,
        metrics={name: _facts(found, scale) for name, found in figures(card).items()},
        recalls=tuple(_facts(each, 1.0) for each in recalls),
        confidence=confidence,
        histogram=tuple(map(tuple, whole.tolist())),
        noise_std=noise_std,
        label_scale=label_scale,
        sites=tuple(sorted(tables)),
    )
    return _with_curves(facts, whole) if plan.loss == "binary" else facts


def _with_curves(facts: EvaluationFacts, histogram: NoisyTable) -> EvaluationFacts:
    """The same with what only scores show."""
    noise_std, confidence = facts.noise_std, facts.confidence
    roc = roc_curve(histogram, noise_std=noise_std, confidence=confidence)
    found = calibration(histogram, noise_std=noise_std, confidence=confidence)
    return facts.model_copy(
        update={
            "roc": tuple(
                RocPointFacts(
                    threshold=point.threshold,
                    false_positive_rate=_facts(point.false_positive_rate, 1.0),
                    true_positive_rate=_facts(point.true_positive_rate, 1.0),
                )
                for point in roc
            ),
            "calibration": tuple(
                CalibrationBinFacts(
                    lower=each.lower,
                    upper=each.upper,
                    observed_rate=_facts(each.observed_rate, 1.0),
                )
                for each in found.bins
            ),
            "calibration_error": _facts(found.expected_error, 1.0),
        }
    )


def _facts(found: Estimate, scale: float) -> EstimateFacts:
    return EstimateFacts(
        value=found.value * scale, lower=found.lower * scale, upper=found.upper * scale
    )
