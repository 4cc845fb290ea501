"""A synthesis as it leaves the sites, without any: the real measuring, noise and fit in between."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save

from sordino.synthesis_jobs import completed
from sordino.synthetic_release import SyntheticRelease, read_release
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import SecureNoise
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile, new_nonce, sign_job
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.signing import save_keypair
from sordino_server.runs import Runs
from sordino_server.synthesizing import synthesize
from sordino_server.tabulating import Tables

SCHEMA = parse_toml(
    """
    [dataset]
    name = "visits"
    version = 1
    order_of_magnitude = 1000
    holdout_fraction = 0.2

    [columns.age]
    type = "integer"
    min = 0
    max = 99

    [columns.cost]
    type = "number"
    min = 0
    max = 1000
    bins = 20
    nullable = true

    [columns.ward]
    type = "category"
    values = ["north", "south", "west"]
    other = "other"

    [columns.towers]
    type = "set"
    values = ["a", "b", "c", "d"]
    max_items = 2

    [columns.remark]
    type = "text"

    [columns.ill]
    type = "integer"
    min = 0
    max = 1

    [roles]
    label = "ill"
    positive_above = 0
    protected = ["ward"]
    """,
    Schema,
    source="visits.toml",
)


def visits(rows: int, *, seed: int) -> pd.DataFrame:
    """Made-up records in which the old are ill, and the ill are in the north."""
    rng = np.random.default_rng(seed)
    age = rng.integers(10, 90, rows)
    ill = (age + rng.normal(0, 15, rows) > 60).astype(int)
    ward = np.where(ill & (rng.random(rows) < 0.8), "north", rng.choice(["south", "west"], rows))
    towers = ["|".join(sorted({"abcd"[each % 4], "abcd"[each % 3]})) for each in range(rows)]
    cost = np.where(rng.random(rows) < 0.1, np.nan, rng.gamma(2, 100, rows).clip(0, 1000))
    return pd.DataFrame(
        {"age": age, "cost": cost, "ward": ward, "towers": towers, "ill": ill, "remark": "none"}
    )


def synthesis_job(mode: str = "local", **options: str | int) -> JobFile:
    """A job with a small mixture, complete."""
    rows = f"rows = {options['rows']}" if "rows" in options else ""
    silent = f"silent = {options['silent']}" if "silent" in options else ""
    kind = str(options.get("generator", "mixture"))
    components = "components = 10" if kind == "mixture" else ""
    text = f"""
    [job]
    name = "visits"
    kind = "synthesize"
    dataset = "visits"

    [privacy]
    unit = "record"
    epsilon = 1.0
    delta = 1e-5

    [synthesis]
    mode = "{mode}"
    {rows}
    {silent}
    generator = {{ kind = "{kind}" {"," if components else ""} {components} }}

    [cohort]
    sites = ["alpha", "beta"]
    quorum = 2
    """
    return completed(parse_toml(text, JobFile, source="job.toml"), SCHEMA)


def finished_synthesis(
    directory: Path, *, mode: str = "local", rows: int = 1_000
) -> SyntheticRelease:
    """A run of two sites, as the server writes it, read as the workbench reads it."""
    job = resolve(synthesis_job(mode))
    plan = job.plan.require_synthesis()
    tables = {}
    for seed, site in enumerate(("alpha", "beta")):
        cells = encode_cells(visits(rows, seed=seed), SCHEMA)
        if mode == "table":
            tables[site] = cells[:200]
        else:
            marginals = plan.released_marginals
            tables[site] = measure(cells, marginals, shape=plan.shape, noise=SecureNoise())
    if mode == "sum":
        tables = {"sum": tables["alpha"] + tables["beta"]}
    signed = sign_job(
        job,
        save_keypair(directory.parent / "keys", "scientist"),
        purpose="synthesize",
        nonce=new_nonce(),
    )
    run = Runs(directory).create(signed)
    name = "rows" if mode == "table" else "tables"
    (run.path / f"{name}.safetensors").write_bytes(save(tables))
    flat = {site: each.reshape(-1) for site, each in tables.items()}
    synthesize(run, job, SCHEMA, Tables(flat, ("alpha", "beta")))
    return read_release(run)
