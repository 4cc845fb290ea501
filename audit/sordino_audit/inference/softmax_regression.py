"""Softmax regression: how the baseline guesses a category, and the attack a property.

Convex, so that the fit is the same everywhere, and strong enough for what it is compared with:
features are standardised, and every prediction is a distribution over the classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import log_softmax

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRegression:
    """A fitted model.

    Attributes:
        centre: what is taken off the features, shape (width,).
        scale: what they are divided by, shape (width,).
        weights: the last row is the intercept, shape (width + 1, classes).
    """

    centre: Floats
    scale: Floats
    weights: Floats

    def log_probabilities(self, features: Floats) -> Floats:
        """Log-probability of each class, shape (rows, classes), of features (rows, width)."""
        scores = _with_intercept((features - self.centre) / self.scale) @ self.weights
        logs: Floats = log_softmax(scores, axis=1)
        return logs


def fit(
    features: Floats, classes: Classes, *, class_count: int, penalty: float
) -> SoftmaxRegression:
    """Maximise the mean log-likelihood less `penalty / 2` times the squared weights.

    The intercepts are not penalised, so that under a large penalty the shares of the classes are
    predicted for everybody; a class that never occurs gets a small share all the same.

    Args:
        features: shape (rows, width).
        classes: from 0 to `class_count - 1`, shape (rows,).
        class_count: how many classes there are.
        penalty: > 0.

    Raises:
        ValueError: no rows, rows that do not match, a class out of range, or a penalty <= 0.
    """
    rows, width = features.shape
    if rows == 0 or classes.shape != (rows,):
        raise ValueError(f"expected a class for each of some rows, not {classes.shape} for {rows}")
    if classes.min() < 0 or classes.max() >= class_count:
        raise ValueError(f"every class must be from 0 to {class_count - 1}")
    if not penalty > 0:
        raise ValueError(f"penalty must be above 0, not {penalty}")
    centre, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    inputs = _with_intercept((features - centre) / scale)
    # One more record, spread over all classes: no class becomes impossible.
    targets = (np.eye(class_count)[classes] * rows + 1 / class_count) / (rows + 1)
    shape = (width + 1, class_count)
    is_penalised = np.ones(shape)
    is_penalised[-1] = 0.0

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logs = log_softmax(inputs @ weights, axis=1)
        shrunk = penalty * is_penalised * weights
        loss = -float(np.sum(targets * logs)) / rows + float(np.sum(shrunk * weights)) / 2
        gradient = inputs.T @ (np.exp(logs) - targets) / rows + shrunk
        return loss, gradient.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B")
    return SoftmaxRegression(centre, scale, np.asarray(found.x, dtype=np.float64).reshape(shape))


def _with_intercept(features: Floats) -> Floats:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
