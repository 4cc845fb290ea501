import math
from importlib.resources import files

from sordino import heart
from sordino.tuning import Measurement, Outcome, best_job, over_repeats, ranked
from sordino.tuning_settings import Trial
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile

JOB = (files(heart) / "job.toml").read_text()
NUMBERS = JOB.replace("[training]", '[training]\nloss = "squared"')


def outcome(number: int, value: float, *, text: str = JOB, name: str = "auc") -> Outcome:
    file = parse_toml(text, JobFile, source="job.toml")
    trial = Trial(number, {"training.clipping_norm": 0.5}, file, "job.toml")
    metrics = {"accuracy": Measurement(0.5), name: Measurement(value, spread=0.01)}
    return Outcome(trial, 4.0, 5.1, metrics)


def numbers_of(outcomes: tuple[Outcome, ...]) -> list[int]:
    return [each.trial.number for each in outcomes]


def test_the_best_comes_first_and_what_is_no_number_last() -> None:
    outcomes = [outcome(1, math.nan), outcome(2, 0.7), outcome(3, 0.9), outcome(4, 0.8)]
    assert numbers_of(ranked(outcomes)) == [3, 4, 2, 1]


def test_of_errors_the_smallest_is_best() -> None:
    name = "mean_absolute_error"
    outcomes = [
        outcome(n, v, text=NUMBERS, name=name) for n, v in ((1, 3.0), (2, 1.0), (3, math.inf))
    ]
    assert numbers_of(ranked(outcomes)) == [2, 1, 3]


def test_equal_trials_stay_in_their_order() -> None:
    assert numbers_of(ranked([outcome(1, 0.7), outcome(2, 0.7)])) == [1, 2]


def test_mean_and_spread_are_those_of_the_repeats() -> None:
    measured = over_repeats([1.0, 2.0, 3.0])
    assert measured == Measurement(2.0, spread=1.0)
    assert str(measured) == "2.0000 +- 1.0000"
    assert over_repeats([0.5]).spread is None
    assert str(Measurement(0.75, interval=(0.6, 0.9))) == "0.750 (0.600 to 0.900)"


def test_the_best_job_says_where_it_comes_from_and_reads_back() -> None:
    best = outcome(3, 0.9)
    text = best_job(best, tried=7, where="table.csv, no site asked")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert "best of 7 trials by auc, 0.9000 +- 0.0100" in head[0]
    assert "table.csv, no site asked" in head[1]
    assert "training.clipping_norm = 0.5" in head[2]
    assert parse_toml(text, JobFile, source="best.toml") == best.trial.file


def test_rows_and_facts_tell_the_same() -> None:
    one = outcome(3, 0.9)
    assert list(one.row)[:3] == ["trial", "settings", "auc"]
    assert one.row["settings"] == "training.clipping_norm = 0.5"
    assert "run" not in one.row
    metrics = one.facts["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["auc"] == {"value": 0.9, "spread": 0.01, "interval": None}
