"""Probes of the source of all noise: does it repeat itself, and do its low-order bits tell sums?

The attacks are those of `primitives`, small enough for every self-test.
"""

from sordino_audit.primitives.float_attack import grid_adder, proving_share
from sordino_audit.primitives.generator import draws_everywhere, reuse_p_value, shared_numbers
from sordino_audit.probes.chance import FALSE_ALARM
from sordino_audit.probes.found import Found
from sordino_audit.probes.trainer import Case
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.training.steps import grid_step

_COUNT = 1000
_OUTPUTS = 20_000


def repeats(noise: Noise | None = None) -> Found:
    """No number is drawn twice: not in the next draw, another thread, or a forked process.

    Args:
        noise: the source; the product's by default.
    """
    source = noise or SecureNoise()
    draws = draws_everywhere(source, count=_COUNT)
    shared = shared_numbers(draws)
    p_value = reuse_p_value(lambda: source, count=_COUNT)
    return Found(
        shared == 0 and p_value > FALSE_ALARM,
        f"{shared} of {_COUNT * len(draws):,} numbers were drawn twice, in draws that followed each"
        f" other, in threads and after a fork",
    )


def float_attack(case: Case) -> Found:
    """No output of the noisy sum proves which of two neighbouring sums it hides.

    Args:
        case: whose noise and grid.
    """
    plan = case.plan
    adder = grid_adder(noise_std=plan.noise_std, step=grid_step(plan, case.dimension))
    norm = plan.clipping_norm
    share = max(
        proving_share(adder, SecureNoise(), count=_OUTPUTS, total=total, other=other)
        for total, other in ((0.0, norm), (norm, 0.0))
    )
    return Found(
        share == 0,
        f"{100 * share:.3g} % of the outputs of a noisy sum of 0 prove that it was not the clipping"
        " norm, or the reverse",
    )
