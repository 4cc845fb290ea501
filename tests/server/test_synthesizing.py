"""From released numbers to a generator: the noise in them, and the same files every time."""

import math
from pathlib import Path

import numpy as np
import pytest
from federation import SUBMITTER, make_signer
from safetensors.numpy import load
from small_synthesis import LOCAL, SUM, TABLE, schema_of, synthesis_job

from sordino_protocols.job import Job, new_nonce, sign_job
from sordino_protocols.messages import Integers
from sordino_server.runs import GENERATOR, SYNTHESIS, RunDirectory, Runs
from sordino_server.synthesizing import site_tables, synthesize
from sordino_server.table_acceptance import cell_count, cell_stds
from sordino_server.table_facts import SynthesisFacts
from sordino_server.tabulating import Tables

SITES = ("a", "b")


def numbers_of(job: Job, *, seed: int) -> Integers:
    """Noise alone: a table of nobody."""
    stds = cell_stds(job.plan.require_synthesis().released_marginals)
    return np.rint(np.random.default_rng(seed).normal(0, stds)).astype(np.int32)


def run_of(directory: Path, job: Job) -> RunDirectory:
    signer = make_signer(SUBMITTER)
    signed = sign_job(job, signer, purpose="synthesize", nonce=new_nonce())
    return Runs(directory).create(signed)


def test_a_sum_has_the_noise_of_as_many_shares_as_are_in_it() -> None:
    plan = synthesis_job(SUM).plan.require_synthesis()
    numbers = {"sum": np.zeros(cell_count(plan.released_marginals), dtype=np.int32)}
    for sites in (2, 3):
        (table,) = site_tables(plan, numbers, sites=sites)
        for marginal, whole, std in zip(
            plan.released_marginals, plan.marginals, table.noise_stds, strict=True
        ):
            assert std == pytest.approx(marginal.noise_std * math.sqrt(sites))
            # Two of three are enough for what the sum promises; each rounds its share up.
            assert std >= whole.noise_std
            if sites == 2:
                assert std == pytest.approx(whole.noise_std, rel=2e-3)


def test_each_site_of_its_own_has_the_whole_noise_and_rows_have_no_table() -> None:
    job = synthesis_job(LOCAL)
    plan = job.plan.require_synthesis()
    tables = site_tables(plan, {name: numbers_of(job, seed=1) for name in SITES}, sites=len(SITES))
    assert [table.site for table in tables] == list(SITES)
    for table in tables:
        assert table.noise_stds == tuple(each.noise_std for each in plan.marginals)
    assert site_tables(synthesis_job(TABLE).plan.require_synthesis(), {}, sites=2) == []


def test_the_same_numbers_give_the_same_generator(tmp_path: Path) -> None:
    job = synthesis_job(LOCAL)
    tables = Tables({name: numbers_of(job, seed=at) for at, name in enumerate(SITES)}, SITES)
    run = run_of(tmp_path, job)
    first = synthesize(run, job, schema_of(), tables)
    content = (run.path / GENERATOR).read_bytes()
    assert synthesize(run, job, schema_of(), tables) == first
    assert (run.path / GENERATOR).read_bytes() == content
    assert run.read(SYNTHESIS, SynthesisFacts) == first
    changed = {**tables.numbers, "b": tables.numbers["b"] + 100}
    synthesize(run, job, schema_of(), Tables(changed, SITES))
    assert load((run.path / GENERATOR).read_bytes()).keys() == load(content).keys()
    assert (run.path / GENERATOR).read_bytes() != content


def test_a_table_of_nobody_says_so(tmp_path: Path) -> None:
    job = synthesis_job(LOCAL)
    tables = Tables({"a": numbers_of(job, seed=3)}, ("a",))
    facts = synthesize(run_of(tmp_path, job), job, schema_of(), tables)
    # Five standard deviations: 6e-7.
    assert abs(facts.tables["a"].units) < 5 * facts.tables["a"].units_std
