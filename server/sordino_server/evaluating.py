"""What the sites' noisy tables say together: the figures of the task, with their intervals."""

import math
from collections.abc import Mapping

import numpy as np

from sordino_protocols.models import FloatVector
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.scorecard import ClassScorecard, Estimate, figures, task_scorecard
from sordino_server.statement import EstimateFacts, EvaluationFacts


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
    return EvaluationFacts(
        loss=plan.loss,
        metrics={name: _facts(found, scale) for name, found in figures(card).items()},
        recalls=tuple(_facts(each, 1.0) for each in recalls),
        confidence=confidence,
        histogram=tuple(map(tuple, whole.tolist())),
        noise_std=noise_std,
        label_scale=label_scale,
        sites=tuple(sorted(tables)),
    )


def _facts(found: Estimate, scale: float) -> EstimateFacts:
    return EstimateFacts(
        value=found.value * scale, lower=found.lower * scale, upper=found.upper * scale
    )
