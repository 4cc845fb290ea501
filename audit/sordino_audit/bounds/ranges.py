"""What numbers an estimator takes: one wording for all refusals."""

import math


def require_delta(delta: float) -> None:
    """Raise `ValueError` unless delta is in [0, 1)."""
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be in [0, 1), not {delta}")


def require_confidence(confidence: float) -> None:
    """Raise `ValueError` unless a confidence (or credibility) is in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")


def require_error(error: float) -> None:
    """Raise `ValueError` unless the level of a test is in (0, 1)."""
    if not 0 < error < 1:
        raise ValueError(f"error must be in (0, 1), not {error}")


def require_epsilon(epsilon: float) -> None:
    """Raise `ValueError` unless epsilon is finite and >= 0."""
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and at least 0, not {epsilon}")


def require_positive(name: str, number: float) -> None:
    """Raise `ValueError` unless the number of that name is finite and > 0."""
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be finite and above 0, not {number}")


def require_sampling(sampling_rate: float, steps: int) -> None:
    """Raise `ValueError` unless the sampling rate is in (0, 1] and there is a step."""
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"sampling_rate must be in (0, 1], not {sampling_rate}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")


def require_guesses(canaries: int, guesses: int, correct: int) -> None:
    """Raise `ValueError` unless 0 <= correct <= guesses <= canaries."""
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            "expected 0 <= correct <= guesses <= canaries, "
            f"not correct={correct}, guesses={guesses}, canaries={canaries}"
        )
