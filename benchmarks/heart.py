"""Heart disease at four hospitals: what privacy costs, and what a federation gains over a site.

`python -m benchmarks.heart [--json] [--seeds N] [--data DIR]`. Every number is a mean over random
splits into training and held-out records. Epsilon covers training and the noisy evaluation. The
recipe is the same for every epsilon; it was chosen on other random splits of the same records,
which are public.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from benchmarks.reporting import Figure, report
from sordino import heart
from sordino.baselines import (
    SiteRecords,
    alone_with_privacy,
    central_without_privacy,
    federate,
    measure,
)
from sordino.exact_metrics import ExactMetrics
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.table import Table, split
from sordino_client.training.noise import SecureNoise
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve

EPSILONS = (4.0, 1.0)
AUC_BARS: Mapping[float, float] = {4.0: 0.86, 1.0: 0.84}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.heart", description="heart disease, 4 sites")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20, help="random splits, at least 2")
    parser.add_argument("--data", type=Path, help="folder with <site>/heart.toml, else built in")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        datasets = _datasets(chosen.data, Path(scratch))
        tables = {name: load_table(dataset) for name, dataset in datasets.items()}
    jobs = {epsilon: _job(epsilon) for epsilon in EPSILONS}
    results = _measure(tables, datasets, jobs, seeds=chosen.seeds)
    context = {
        "splits": chosen.seeds,
        "standard_deviation_over_splits": {
            name: {
                "accuracy": round(float(np.std([m.accuracy for m in each])), 4),
                "auc": round(float(np.std([m.auc for m in each])), 4),
            }
            for name, each in results.items()
        },
        "recipe": jobs[4.0].file.model_dump(mode="json", exclude={"privacy"}),
        "noise_multiplier": {str(e): job.training_noise_multiplier for e, job in jobs.items()},
        "delta": jobs[4.0].file.require_privacy().delta,
        "data_sha256": _digest(tables),
    }
    return report(_figures(results), context, as_json=chosen.json)


def _datasets(folder: Path | None, scratch: Path) -> dict[str, DatasetFile]:
    """Each hospital's declared data set, from `folder` or as it is shipped."""
    datasets = {}
    for name in heart.ORDERS_OF_MAGNITUDE:
        if folder is not None:
            datasets[name] = read_dataset(folder / name / "heart.toml")
            continue
        (scratch / name).mkdir()
        datasets[name] = read_dataset(heart.write_dataset(name, scratch / name))
    return datasets


def _job(epsilon: float) -> Job:
    """The demo's job, at another epsilon."""
    text = (files(heart) / "job.toml").read_text(encoding="utf-8")
    shipped = parse_toml(text, JobFile, source="job.toml")
    privacy = shipped.require_privacy().model_copy(update={"epsilon": epsilon})
    return resolve(shipped.model_copy(update={"privacy": privacy}))


def _measure(
    tables: Mapping[str, Table],
    datasets: Mapping[str, DatasetFile],
    jobs: Mapping[float, Job],
    *,
    seeds: int,
) -> dict[str, list[ExactMetrics]]:
    """Everything that is compared, on every split."""
    results: dict[str, list[ExactMetrics]] = {}
    noise = SecureNoise()
    for seed in range(seeds):
        sites = _split(tables, datasets, seed)
        spec = jobs[4.0].file.require_model()
        row = {"central without privacy": central_without_privacy(sites, spec)}
        for epsilon, job in jobs.items():
            weights = federate(sites, job, noise=noise)
            row[f"federation, epsilon {epsilon:g}"] = measure(weights, spec, sites)
        alone = list(alone_with_privacy(sites, jobs[4.0], noise=noise).values())
        row["a hospital alone, epsilon 4"] = ExactMetrics(
            accuracy=float(np.mean([each.accuracy for each in alone])),
            auc=float(np.mean([each.auc for each in alone])),
        )
        for name, metrics in row.items():
            results.setdefault(name, []).append(metrics)
    return results


def _split(
    tables: Mapping[str, Table], datasets: Mapping[str, DatasetFile], seed: int
) -> dict[str, SiteRecords]:
    sites = {}
    for name, table in tables.items():
        facts = datasets[name].dataset
        key = hashlib.sha256(f"benchmark split {seed} {name}".encode()).digest()
        train, held_out = split(table, fraction=facts.holdout_fraction, key=key)
        sites[name] = SiteRecords(train, held_out, facts.order_of_magnitude)
    return sites


def _figures(results: Mapping[str, Sequence[ExactMetrics]]) -> list[Figure]:
    bars = {f"federation, epsilon {epsilon:g}": bar for epsilon, bar in AUC_BARS.items()}
    figures = []
    for name, each in results.items():
        accuracy, auc = np.mean([m.accuracy for m in each]), np.mean([m.auc for m in each])
        figures.append(Figure(f"{name}: held-out accuracy", float(accuracy)))
        figures.append(Figure(f"{name}: held-out AUC", float(auc), bars.get(name)))
    return figures


def _digest(tables: Mapping[str, Table]) -> str:
    """One hash of all encoded records and labels: two reports compare only where it is equal."""
    hashed = hashlib.sha256()
    for name, table in sorted(tables.items()):
        hashed.update(name.encode())
        hashed.update(table.features.tobytes())
        hashed.update(table.labels.tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
