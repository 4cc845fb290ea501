"""The likelihood ratio attack (Carlini et al. 2022): is a score like a member's, for *this* record?

Records differ in how hard they are; one threshold for all finds those that are easy, members or
not. Shadow models with and without each record give it its own two Gaussians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]

FEWEST_REFERENCES = 3
FEWEST_FOR_OWN_VARIANCE = 64
"""Shadows from which on each target has variances of its own (Carlini et al. 2022, ablation)."""
_SMALLEST_STD = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """What shadow models say of the targets.

    Attributes:
        confidences: [shadows, targets], logit-scaled confidences (`scores.logit_confidence`).
        membership: bool [shadows, targets], whether a shadow was trained on a target.
    """

    confidences: Floats
    membership: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.confidences.ndim != 2 or self.confidences.shape != self.membership.shape:  # noqa: PLR2004
            raise ValueError("expected confidences and membership of one shape [shadows, targets]")


def online(observed: Floats, references: References) -> Floats:
    """Log ratio of the densities with and without the target (Carlini et al. 2022, algorithm 1).

    Two Gaussians a target, fitted to what shadows with it and shadows without it say. Under 64
    shadows their variances are those of all targets together.

    Args:
        observed: [..., targets], logit-scaled confidences of the models under attack.
        references: shadows, of which some were trained on each target and some were not.

    Raises:
        ValueError: fewer than three shadows with, or three without, some target.
    """
    inside = _fit(references, references.membership)
    outside = _fit(references, ~references.membership)
    return _log_density(observed, inside) - _log_density(observed, outside)


def offline(observed: Floats, references: References) -> Floats:
    """Log probability that a model without the target says less (Carlini et al. 2022, offline).

    One Gaussian a target, as in `online`. Shadows that were trained on it are ignored there: none
    need be. It does not tell a model with the target from one that is merely good at it.

    Args:
        observed: [..., targets], logit-scaled confidences of the models under attack.
        references: shadows, of which some were not trained on each target.

    Raises:
        ValueError: fewer than three shadows without some target.
    """
    mean, std = _fit(references, ~references.membership)
    return np.asarray(log_ndtr((observed - mean) / std))


def _fit(references: References, used: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and standard deviation [targets] of the shadows that are used."""
    counts = used.sum(axis=0)
    if counts.min(initial=FEWEST_REFERENCES) < FEWEST_REFERENCES:
        raise ValueError(
            f"a target has {counts.min()} reference models; LiRA fits a Gaussian and needs "
            f"{FEWEST_REFERENCES}: use RMIA with fewer"
        )
    mean = np.where(used, references.confidences, 0.0).sum(axis=0) / counts
    squares = np.where(used, (references.confidences - mean) ** 2, 0.0).sum(axis=0)
    if len(used) < FEWEST_FOR_OWN_VARIANCE:
        degrees = counts.sum() - len(counts)
        squares, counts = np.full_like(squares, squares.sum()), np.full_like(counts, degrees + 1)
    return mean, np.maximum(np.sqrt(squares / (counts - 1)), _SMALLEST_STD)


def _log_density(observed: Floats, fit: tuple[Floats, Floats]) -> Floats:
    """Of a Gaussian, up to the constant that cancels in a ratio."""
    mean, std = fit
    return np.asarray(-(((observed - mean) / std) ** 2) / 2 - np.log(std))
