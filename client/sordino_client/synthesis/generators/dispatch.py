"""From a plan to a table: the one place that knows which generator a site runs.

What must stay true: whatever looks at cells is paid for by `plan.event`; what comes after is a
function of noisy numbers and of randomness that has nothing to do with the records.
"""

from typing import assert_never

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.generators.mixture import fit_products
from sordino_client.synthesis.generators.mst import fit_tree
from sordino_client.synthesis.generators.nade import fit_nade
from sordino_client.synthesis.generators.privbayes import fit_network
from sordino_client.synthesis.generators.vae import fit_autoencoders
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.constraints import obeying
from sordino_protocols.synthesis.positions import flattened, within_sets
from sordino_protocols.synthesis.specs import (
    MixtureSpec,
    MstSpec,
    NadeSpec,
    PrivBayesSpec,
    VaeSpec,
)

Cells = npt.NDArray[np.int32]


def generate(
    plan: SynthesisPlan,
    cells: Cells,
    *,
    noise: Noise,
    performance: Performance,
    rng: np.random.Generator,
    schema: Schema | None = None,
) -> Cells:
    """A synthetic table of one site: costs `plan.event`.

    Args:
        plan: which generator, and what is paid for.
        cells: [units, positions], one row a privacy unit; a secret.
        noise: source of the randomness that privacy rests on.
        performance: how fast to train; touches no privacy.
        rng: of everything else.
        schema: whose constraints the records must obey; None for none.

    Returns:
        [rows, positions]: as many as the plan says, or else as there seem to be units.

    Raises:
        InputError: the generator does not suit the shape, or hardly a record obeys the constraints.
    """
    fitted = fit_generator(plan, cells, noise=noise, performance=performance, rng=rng)
    wanted = round(fitted.units) if plan.rows is None else plan.rows

    def draw(rows: int) -> Cells:
        return within_sets(fitted.sampler.sample(rows, rng=rng), plan.shape, rng=rng)

    return draw(wanted) if schema is None else obeying(draw, schema, rows=wanted)


def fit_generator(
    plan: SynthesisPlan,
    cells: Cells,
    *,
    noise: Noise,
    performance: Performance,
    rng: np.random.Generator,
) -> Fitted:
    """The part of `generate` that looks at cells, and costs.

    Args:
        plan: which generator, and what is paid for.
        cells: [units, positions], one row a privacy unit; a secret.
        noise: source of the randomness that privacy rests on.
        performance: how fast to train; touches no privacy.
        rng: of first weights and the like.

    Raises:
        InputError: the generator does not suit the shape.
    """
    spec, shape, multiplier = plan.generator, plan.shape, plan.noise_multiplier
    match spec:
        case MixtureSpec():
            return fit_products(cells, plan.marginals, spec, shape=shape, noise=noise, rng=rng)
        case MstSpec():
            tree = spec.plan(shape, multiplier, plan.unit)
            return fit_tree(cells, tree, flat=flattened(shape), noise=noise)
        case PrivBayesSpec():
            network = spec.plan(shape, multiplier, plan.unit)
            return fit_network(cells, network, flat=flattened(shape), noise=noise)
        case NadeSpec():
            return fit_nade(
                cells,
                spec,
                shape=shape,
                noise_multiplier=multiplier,
                unit=plan.unit,
                noise=noise,
                performance=performance,
                rng=rng,
            )
        case VaeSpec():
            return fit_autoencoders(
                cells,
                spec.plan(shape, multiplier, plan.unit),
                spec,
                flat=flattened(shape),
                noise=noise,
                performance=performance,
                rng=rng,
            )
        case _:
            assert_never(spec)
