"""Property inference: guess from a released model whether something holds for a site's data.

Shadow models are trained by the attacker on data with and without the property, and a classifier
learns to tell them by what they answer, or by their weights (Ateniese et al. 2015; Ganju et al.
2018). It is then shown models that it has not seen, each from a federation in which a fair coin
decided whether the property holds for one site. The baseline is the same guess from the same
federation's model, had that site held records that tell nothing of it: a model that never saw the
property. Federations are independent of each other, so the interval of the advantage is exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.inference.result import TOLERANCE, Guesses, InferenceAudit, judge
from sordino_audit.inference.softmax_regression import fit

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BLIND_SPOTS = (
    "Properties other than this one were not guessed, nor degrees of it.",
    "Differential privacy of records, or of entities, does not hide what holds for a whole site.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What an attacker sees of trained models, and whether the property held for their data.

    Attributes:
        looks: answers to the same queries, or weights, shape (models, width).
        has_property: shape (models,).
    """

    looks: Floats
    has_property: Flags

    def __post_init__(self) -> None:
        if self.looks.ndim != 2 or self.has_property.shape != self.looks.shape[:1]:  # noqa: PLR2004
            raise ValueError(
                f"expected looks (models, width) and a flag each, not {self.looks.shape} "
                f"and {self.has_property.shape}"
            )
        if not np.isfinite(self.looks).all():
            raise ValueError("every look at a model must be finite")


def audit_property(
    name: str,
    *,
    shadows: Models,
    released: Models,
    unaware: Floats,
    confidence: float,
    penalty: float = 0.1,
    tolerance: float = TOLERANCE,
) -> InferenceAudit:
    """How much better a property of a site's data is guessed from models that saw the data.

    Args:
        name: what holds or not, as words that follow "whether".
        shadows: models that the attacker trained, to learn from; some with and some without.
        released: models under attack, each from a federation of its own, with a fair coin each.
        unaware: looks at models that never saw the property, of the same federations: one for each
            released model, same shape.
        confidence: of the interval.
        penalty: of the attacker's classifier; see `softmax_regression.fit`.
        tolerance: advantage from which the verdict is `SUSPECT`.

    Raises:
        ValueError: shadows of one kind only, shapes that do not match, or numbers outside their
            ranges.
    """
    if shadows.has_property.all() or not shadows.has_property.any():
        raise ValueError("expected shadow models both with and without the property")
    if unaware.shape != released.looks.shape:
        raise ValueError(
            "expected a look at an unaware model for each released one, "
            f"{released.looks.shape}, not {unaware.shape}"
        )
    if released.looks.shape[1] != shadows.looks.shape[1]:
        raise ValueError("shadows and released models must be looked at in the same way")
    classifier = fit(
        shadows.looks, shadows.has_property.astype(np.int64), class_count=2, penalty=penalty
    )

    def is_right(looks: Floats) -> Flags:
        guessed = classifier.log_probabilities(looks).argmax(axis=1) == 1
        right: Flags = guessed == released.has_property
        return right

    return judge(
        "property",
        name,
        Guesses(attack=is_right(released.looks), baseline=is_right(unaware)),
        others=None,
        confidence=confidence,
        tolerance=tolerance,
        blind_spots=_BLIND_SPOTS,
    )
