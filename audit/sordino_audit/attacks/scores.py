"""Scores that need one model and no reference: higher = more likely a member.

All work on logits, because probabilities of an overfitted model round to 1 in the last bits that an
attack lives on. Shapes are [..., classes] for logits and [...] for labels, which broadcast: one
call scores all targets under many models. A model with one logit, of a binary label, is first
written out by `with_both_classes`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def with_both_classes(logits: Floats) -> Floats:
    """A binary model's logits [...] as [..., 2]: the softmax is the sigmoid's two probabilities."""
    return np.stack([np.zeros_like(logits), logits], axis=-1)


def loss_score(logits: Floats, labels: Labels) -> Floats:
    """Minus the cross-entropy: members are fitted better (Yeom et al. 2018, adversary 2).

    Raises:
        ValueError: labels do not fit the logits.
    """
    return _of_label(special.log_softmax(logits, axis=-1), labels)


def logit_confidence(logits: Floats, labels: Labels) -> Floats:
    """log(p / (1 - p)) of the true class, which is near Gaussian (Carlini et al. 2022, sec. IV-C).

    Computed as the true logit less the log-sum-exp of the others: exact where p rounds to 1.

    Raises:
        ValueError: labels do not fit the logits, or there is one class only.
    """
    if logits.shape[-1] < 2:  # noqa: PLR2004
        raise ValueError("logits have one class; a binary model's are made two beforehand")
    is_true = _one_hot(logits, labels)
    others = np.where(is_true, -np.inf, logits)
    return np.asarray(_of_label(logits, labels) - special.logsumexp(others, axis=-1))


def modified_entropy_score(logits: Floats, labels: Labels) -> Floats:
    """Minus the modified entropy (Song & Mittal 2021, Mentr): entropy that knows the true class.

    With probabilities p and true class y the modified entropy is
    -(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i): 0 for a certain and right model,
    infinite for a certain and wrong one.

    Raises:
        ValueError: labels do not fit the logits.
    """
    logs = special.log_softmax(logits, axis=-1)
    is_true = _one_hot(logits, labels)
    rest = _log_of_the_rest(logs)
    terms = np.where(is_true, np.exp(rest) * logs, np.exp(logs) * rest)
    return np.asarray(terms.sum(axis=-1))


def _log_of_the_rest(logs: Floats) -> Floats:
    """log(1 - p) of each class, exact where p rounds to 1."""
    # Of the likeliest class it is the sum of the others; no other has a probability above a half.
    is_likeliest = np.arange(logs.shape[-1]) == logs.argmax(axis=-1)[..., np.newaxis]
    others = special.logsumexp(np.where(is_likeliest, -np.inf, logs), axis=-1, keepdims=True)
    rest = np.log1p(-np.exp(np.where(is_likeliest, -np.inf, logs)))
    return np.where(is_likeliest, others, rest)


def _one_hot(logits: Floats, labels: Labels) -> NDArray[np.bool_]:
    classes = logits.shape[-1]
    if np.any((labels < 0) | (labels >= classes)):
        raise ValueError(f"a label is outside the {classes} classes of the logits")
    return np.broadcast_to(labels[..., np.newaxis] == np.arange(classes), logits.shape)


def _of_label(values: Floats, labels: Labels) -> Floats:
    # Not a product with zeros: a logit may be infinite.
    return np.asarray(np.where(_one_hot(values, labels), values, 0.0).sum(axis=-1))
