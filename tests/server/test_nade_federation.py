"""A federation trains an autoregressive model round by round, and anybody samples from it."""

from pathlib import Path

import numpy as np
import pytest
from federation import JOB, SCHEMA, Federation, make_job
from one_site import POLICY

from sordino_protocols.files import parse_toml
from sordino_protocols.model_file import read_model
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.rounds import RunState
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.nade import sample_nade
from sordino_server.runs import MODEL, STATEMENT
from sordino_server.statement import Statement

# Fine cells of the label, coarse ones of the others; nearly everything a record says is in two.
NADE_JOB = (
    JOB.replace('kind = "logistic"', 'kind = "nade"\nhidden = 4\ncells = [16, 16, 2, 16]')
    .replace("[training]", '[training]\nloss = "likelihood"')
    .replace("epsilon = 4", "epsilon = 40")
    .replace("clipping_norm = 0.5", "clipping_norm = 4.0")
    .replace("rounds = 3", "rounds = 20")
    .replace("learning_rate = 2.0", "learning_rate = 3.0")
    .replace("[audit]", "[evaluation]\nbins = 40\n[audit]")
)
ROWS = 4_000


def test_a_federation_trains_a_generator(tmp_path: Path) -> None:
    federation = Federation(
        tmp_path,
        policy=POLICY.replace("max_epsilon = 4.0", "max_epsilon = 40.0")
        .replace("epsilon = 8.0", "epsilon = 80.0")
        .replace('"mlp"', '"nade"'),
    )
    try:
        run = federation.submit(make_job(NADE_JOB))
        federation.coordinator(run).execute()
        assert run.state() is RunState.DONE
        statement = run.read(STATEMENT, Statement)
        model = read_model((run.path / MODEL).read_bytes())
    finally:
        federation.close()
    evaluation = statement.require_evaluation()
    assert list(evaluation.metrics) == ["negative_log_likelihood"]
    found = evaluation.metrics["negative_log_likelihood"]
    # Of a network that knows nothing every cell is as likely; there is little to know here.
    nothing = float(np.log([16, 16, 2, 16]).mean())
    assert found.lower <= found.value <= found.upper
    assert found.value == pytest.approx(nothing, abs=0.25)
    spec = make_job(NADE_JOB).file.require_model()
    assert isinstance(spec, NadeModelSpec)
    shape = domain_of(parse_toml(SCHEMA, Schema, source="heart.toml")).shape
    records = sample_nade(model.weights, spec, shape, ROWS, rng=np.random.default_rng(0))
    # The label follows the first column.
    old, ill = records[:, 0] >= 50, records[:, 2] == 1
    assert ill[old].mean() > ill[~old].mean() + 0.15
