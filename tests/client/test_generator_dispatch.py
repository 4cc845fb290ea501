import numpy as np
import pytest
from seeded_noise import SeededNoise
from small_domain import AGE, CHURN, SEX, TOWERS, Cells, small_cells, small_schema

from sordino_client.synthesis.generators.dispatch import fit_generator, generate
from sordino_client.training.arithmetic import Performance
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import calibrate
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.privacy import Guarantee, unit_of
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.constraints import is_forbidden
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.specs import (
    GeneratorSpec,
    MixtureSpec,
    MstSpec,
    NadeSpec,
    PrivBayesSpec,
    VaeSpec,
)

NEVER = '[[constraints]]\nnever = { sex = "male", churn = "yes" }\n'
SCHEMA = small_schema(NEVER)
SHAPE = domain_of(SCHEMA).shape
CELLS = small_cells(1_500, rng=np.random.default_rng(1))
SPECS: list[GeneratorSpec] = [
    MixtureSpec(components=20),
    MstSpec(kind="mst"),
    PrivBayesSpec(kind="privbayes"),
    NadeSpec(kind="nade", hidden=8, steps=20, sampling_rate=0.1),
    VaeSpec(kind="vae", hidden=8, latent=2, clusters=2, steps=20, sampling_rate=0.1),
]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)


def plan(spec: GeneratorSpec, *, rows: int | None = None, noise: float = 2.0) -> SynthesisPlan:
    return SynthesisPlan(spec, "table", SHAPE, "0" * 64, noise, unit="entity", rows=rows)


def made(chosen: SynthesisPlan, *, schema: Schema | None = None, seed: int = 2) -> Cells:
    return generate(
        chosen,
        CELLS,
        noise=SeededNoise(seed),
        performance=Performance(),
        rng=np.random.default_rng(seed),
        schema=schema,
    )


@every_spec
def test_a_table_has_records_of_the_domain(spec: GeneratorSpec) -> None:
    table = made(plan(spec, rows=700))
    assert table.shape == (700, SHAPE.position_count)
    assert table.dtype == np.int32
    assert (table >= 0).all()
    assert table[:, AGE].max() < 80
    assert table[:, [CHURN, SEX]].max() <= 1
    assert table[:, TOWERS].max() <= 1
    assert table[:, TOWERS].sum(axis=1).max() <= 3


@every_spec
def test_a_table_has_about_as_many_rows_as_there_are_units(spec: GeneratorSpec) -> None:
    table = made(plan(spec))
    assert len(table) == pytest.approx(1_500, abs=150)
    # Estimated, never sent: another draw of noise gives another number.
    assert len({len(made(plan(spec), seed=seed)) for seed in (3, 4, 5)} | {len(table)}) > 1


@every_spec
def test_a_table_obeys_the_constraints(spec: GeneratorSpec) -> None:
    chosen = plan(spec, rows=400)
    assert not is_forbidden(made(chosen, schema=SCHEMA), SCHEMA).any()
    assert is_forbidden(made(chosen), SCHEMA).any()


@every_spec
def test_only_fitting_looks_at_records(spec: GeneratorSpec) -> None:
    cells = CELLS.copy()
    fitted = fit_generator(
        plan(spec),
        cells,
        noise=SeededNoise(6),
        performance=Performance(),
        rng=np.random.default_rng(6),
    )
    first = fitted.sampler.sample(50, rng=np.random.default_rng(7))
    cells[:] = 0
    again = fitted.sampler.sample(50, rng=np.random.default_rng(7))
    assert np.array_equal(first, again)


@every_spec
def test_noise_is_found_for_a_wanted_epsilon(spec: GeneratorSpec) -> None:
    found = calibrate(lambda noise: plan(spec, noise=noise).event, Guarantee(1.0, 1e-5))
    event = plan(spec, noise=found).event
    assert unit_of(event) == "entity"
    assert 0.99 <= epsilon_by_pld(event, 1e-5) <= 1.0
