"""What a site does with the noisy sums of one round: moves between them, and the delta at the end.

Everything here works on noisy sums and public constants alone, so it is post-processing: no choice
of an optimiser costs privacy, and none may be given anything else. What an optimiser remembers ends
with the round.
"""

from typing import assert_never

from sordino_protocols.adam import AdamState, adam_start, adam_step
from sordino_protocols.local_training import LocalAdam, LocalOptimizer, LocalSgd
from sordino_protocols.models import FloatVector


class LocalDescent:
    """One round's steps from noisy gradient to noisy gradient."""

    def __init__(
        self, optimizer: LocalOptimizer, *, learning_rate: float, noise_std: float
    ) -> None:
        """Begin a round, remembering nothing.

        Args:
            optimizer: the rule.
            learning_rate: step length.
            noise_std: of each coordinate of a gradient: a public constant, for Adam's bias.
        """
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._noise_variance = noise_std**2
        self._velocity: FloatVector | None = None
        self._adam: AdamState | None = None

    def step(self, gradient: FloatVector) -> FloatVector:
        """What to add to the weights after a noisy mean gradient."""
        return -self._learning_rate * self._direction(gradient)

    def _direction(self, gradient: FloatVector) -> FloatVector:
        match self._optimizer:
            case LocalSgd(momentum=momentum):
                if momentum and self._velocity is not None:
                    gradient = momentum * self._velocity + gradient
                self._velocity = gradient
                return gradient
            case LocalAdam() as adam:
                direction, self._adam = adam_step(
                    self._adam or adam_start(len(gradient)),
                    gradient,
                    noise_variance=self._noise_variance,
                    beta1=adam.beta1,
                    beta2=adam.beta2,
                    stability=adam.stability,
                )
                return direction
        assert_never(self._optimizer)
