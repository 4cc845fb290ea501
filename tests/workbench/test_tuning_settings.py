from importlib.resources import files
from pathlib import Path

import pytest

from sordino import heart
from sordino.tuning_settings import (
    Choice,
    Method,
    Trial,
    read_choices,
    read_trials,
    spell_settings,
)
from sordino_protocols.clipping import NormalizedClipping
from sordino_protocols.errors import InputError, NotFoundError


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text((files(heart) / "job.toml").read_text())
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1", (1,)),
        ("a.b=0.1, 0.5,1", (0.1, 0.5, 1)),
        ("a.b=true,false", (True, False)),
        ("a.b='x,y',\"z\"", ("x,y", "z")),
        ("a.b=tanh,relu", ("tanh", "relu")),
        ("a.b=[8],[16, 8]", ([8], [16, 8])),
        ('a.b={kind="flat"},{kind="normalized"}', ({"kind": "flat"}, {"kind": "normalized"})),
        (" a.b =1", (1,)),
    ],
)
def test_values_are_toml_and_bare_words_are_text(text: str, values: tuple[object, ...]) -> None:
    assert read_choices([text]) == (Choice("a.b", values),)


@pytest.mark.parametrize("text", ["a.b", "a.b=", "=1", "a..b=1", ".a=1", ""])
def test_refuses_a_setting_of_another_form(text: str) -> None:
    with pytest.raises(InputError, match="expected key=value,value"):
        read_choices([text])


def test_refuses_what_comes_twice() -> None:
    with pytest.raises(InputError, match="a value comes twice"):
        read_choices(["a.b=1,2,1"])
    with pytest.raises(InputError, match="give all its values at once"):
        read_choices(["a.b=1", "a.b=2"])


def trials(
    path: Path, *texts: str, method: Method = "grid", limit: int | None = None, seed: int = 0
) -> tuple[Trial, ...]:
    return read_trials(path, read_choices(texts), method=method, limit=limit, seed=seed)


def test_a_grid_has_every_combination_once(job_file: Path) -> None:
    found = trials(job_file, "training.clipping_norm=0.1,0.5", "optimizer.learning_rate=1,2,4")
    pairs = [
        (t.file.require_training().clipping_norm, t.file.require_optimizer().learning_rate)
        for t in found
    ]
    assert pairs == [(c, r) for c in (0.1, 0.5) for r in (1, 2, 4)]
    assert [trial.number for trial in found] == [1, 2, 3, 4, 5, 6]
    assert spell_settings(found[0].settings) == (
        "training.clipping_norm = 0.1, optimizer.learning_rate = 1"
    )


def test_without_settings_the_job_itself_is_the_trial(job_file: Path) -> None:
    (only,) = trials(job_file)
    assert only.settings == {}
    assert only.source == str(job_file)


def test_tables_that_the_file_lacks_are_made(job_file: Path) -> None:
    (first, second) = trials(
        job_file,
        "training.clipping.kind=normalized",
        "statistics.share=0.1,0.2",
        "statistics.kind=moments",
    )
    assert first.file.require_training().clipping == NormalizedClipping(kind="normalized")
    assert second.file.statistics is not None
    assert second.file.statistics.share == 0.2


def test_a_random_search_draws_different_combinations_that_the_seed_decides(job_file: Path) -> None:
    wanted = ("training.clipping_norm=0.1,0.2,0.3,0.4", "optimizer.learning_rate=1,2,3,4,5")
    first = [t.settings for t in trials(job_file, *wanted, method="random", limit=7, seed=1)]
    again = [t.settings for t in trials(job_file, *wanted, method="random", limit=7, seed=1)]
    other = [t.settings for t in trials(job_file, *wanted, method="random", limit=7, seed=2)]
    assert first == again != other
    assert len({str(settings) for settings in first}) == 7
    everything = [t.settings for t in trials(job_file, *wanted)]
    assert all(settings in everything for settings in first)
    assert len(trials(job_file, *wanted, method="random")) == 10
    assert [t.settings for t in trials(job_file, *wanted, method="random", limit=50)] == everything


def test_refuses_a_grid_above_the_limit(job_file: Path) -> None:
    with pytest.raises(InputError, match="the grid has 3 trials, more than 2"):
        trials(job_file, "training.rounds=1,2,3", limit=2)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "training.cliping_norm=0.1",
            "training.cliping_norm = 0.1: training.cliping_norm: unknown key; did you mean",
        ),
        ("training.rounds=1.5", "with training.rounds = 1.5: training.rounds: should be a valid"),
        ("optimizer.kind=magic", "optimizer: kind must be"),
        ("training.rounds.many=1", "--set training.rounds.many: training.rounds is no table"),
        ("training=1", "--set training: is a table; set a key of it"),
        ("trainings.rounds=1", "trainings: unknown key; did you mean 'training'?"),
        ("privacy.epsilon=4,nan", "privacy.epsilon: must be finite"),
        ("training.update=delta,sum", None),
    ],
)
def test_a_wrong_setting_names_file_setting_key_and_expectation(
    job_file: Path, setting: str, expected: str | None
) -> None:
    if expected is None:
        assert len(trials(job_file, setting)) == 2
        return
    with pytest.raises(InputError) as caught:
        trials(job_file, setting)
    assert expected in str(caught.value)


def test_a_combination_that_contradicts_itself_is_refused_before_anything_runs(
    job_file: Path,
) -> None:
    with pytest.raises(InputError, match=r"training\.update = 'delta' needs optimizer\.kind"):
        trials(job_file, "training.update=sum,delta", "optimizer={kind='adam',learning_rate=0.1}")


def test_the_file_itself_must_be_a_job(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    with pytest.raises(NotFoundError):
        trials(path)
    path.write_text("[job]\nname = 'a'\n")
    with pytest.raises(InputError, match=r"job\.toml: job\.kind: missing"):
        trials(path, "training.rounds=1")
