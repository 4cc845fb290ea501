"""What a single probe found, before it is named and timed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a probe.

    Attributes:
        is_passed: whether what it looks for held.
        message: one sentence with the measured figure.
    """

    is_passed: bool
    message: str
