from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import SeededNoise
from sklearn.metrics import roc_auc_score

from benchmarks import heart
from benchmarks.reporting import Figure, report, to_json, to_table
from sordino.baselines import (
    SiteRecords,
    alone_with_privacy,
    central_without_privacy,
    federate,
    measure,
)
from sordino.exact_metrics import exact_metrics
from sordino.heart import ORDERS_OF_MAGNITUDE, write_dataset
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.table import split
from sordino_protocols.job import Job


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SiteRecords]:
    found = {}
    for name in ORDERS_OF_MAGNITUDE:
        dataset = read_dataset(write_dataset(name, tmp_path_factory.mktemp(name)))
        train, held_out = split(load_table(dataset), fraction=0.25, key=b"a fixed test key")
        found[name] = SiteRecords(train, held_out, dataset.dataset.order_of_magnitude)
    return found


@pytest.fixture(scope="module")
def job() -> Job:
    return heart._job(4.0)


def test_a_federation_beats_each_hospital_alone_and_stays_below_the_central_model(
    sites: dict[str, SiteRecords], job: Job
) -> None:
    central = central_without_privacy(sites, job.file.require_model())
    weights = federate(sites, job, noise=SeededNoise(1))
    together = measure(weights, job.file.require_model(), sites)
    alone = alone_with_privacy(sites, job, noise=SeededNoise(2))
    assert set(alone) == set(sites)
    assert central.auc > 0.85
    assert together.auc > 0.83
    assert together.auc <= central.auc + 0.02
    assert np.mean([each.auc for each in alone.values()]) < together.auc - 0.02


def test_the_federations_model_has_no_lanes(sites: dict[str, SiteRecords], job: Job) -> None:
    weights = federate({"va": sites["va"]}, job, noise=SeededNoise(3))
    assert weights.shape == (sites["va"].train.features.shape[1] + 1,)


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=2, max_size=30),
    seed=st.integers(0, 2**16),
)
def test_auc_equals_the_reference_with_ties(scores: list[float], seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, len(scores)).astype(np.float32)
    labels[:2] = [0, 1]
    metrics = exact_metrics(np.array(scores), labels)
    assert metrics.auc == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.accuracy == np.mean((np.array(scores) >= 0.5) == (labels > 0))


def test_metrics_need_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        exact_metrics(np.array([0.1, 0.9]), np.ones(2, dtype=np.float32))


def test_the_benchmark_reads_a_folder_like_what_is_shipped(tmp_path: Path) -> None:
    for name in ORDERS_OF_MAGNITUDE:
        (tmp_path / name).mkdir()
        write_dataset(name, tmp_path / name)
    (tmp_path / "scratch").mkdir()
    given_data = heart._datasets(tmp_path, tmp_path / "unused")
    shipped = heart._datasets(None, tmp_path / "scratch")
    tables = [{n: load_table(d) for n, d in each.items()} for each in (given_data, shipped)]
    assert heart._digest(tables[0]) == heart._digest(tables[1])


def test_a_report_says_which_bars_hold(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Figure("reached", 0.9, 0.8),
        Figure("missed", 0.7, 0.8),
        Figure("seconds", 1.0, 2.0, is_upper_bar=True),
        Figure("for comparison", 0.5),
    ]
    assert [figure.holds for figure in figures] == [True, False, True, None]
    assert "MISSED" in to_table(figures, {"splits": 5})
    assert to_json(figures, {"splits": 5})["context"] == {"splits": 5}
    assert report(figures, {}, as_json=True) == 1
    assert report([figures[0], figures[3]], {}, as_json=False) == 0
    assert '"holds": true' in capsys.readouterr().out
