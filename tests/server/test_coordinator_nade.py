"""A generator that is trained like any model: federated rounds, a noisy likelihood, a model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, Federation, make_job, trust
from one_site import POLICY
from small_synthesis import schema_of

from sordino_protocols.certificate import read_certificate
from sordino_protocols.certificate_check import TrustedKeys, verify_certificate
from sordino_protocols.rounds import RunState
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.shapes import SingleShape
from sordino_server.runs import CERTIFICATE, STATEMENT
from sordino_server.statement import Statement

SHAPE = domain_of(schema_of()).shape
CELLS = [each.fine for each in SHAPE.columns if isinstance(each, SingleShape)]
NADE_JOB = JOB.replace('kind = "logistic"', f'kind = "nade"\nhidden = 4\ncells = {CELLS}').replace(
    "[training]", '[training]\nloss = "likelihood"'
)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    policy = POLICY.replace('"mlp"]', '"mlp", "nade"]')
    assert policy != POLICY
    running = Federation(tmp_path, policy=policy)
    yield running
    running.close()


def test_a_generator_is_trained_in_rounds_and_evaluated_by_its_likelihood(
    federation: Federation,
) -> None:
    run = federation.submit(make_job(NADE_JOB))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert np.isfinite(run.model()).all()
    evaluation = run.read(STATEMENT, Statement).require_evaluation()
    assert evaluation.loss == "likelihood"
    surprise = evaluation.metrics["negative_log_likelihood"]
    # In nats a column. Few records and much noise: the value may be at an end of the scale.
    assert 0 <= surprise.lower <= surprise.value <= surprise.upper
    assert surprise.lower < surprise.upper
    keys = TrustedKeys(
        server=trust(federation.server),
        sites=federation.trusted_sites,
        submitters=trust(federation.submitter),
    )
    certificate = read_certificate(run.artifact(CERTIFICATE))
    assert verify_certificate(certificate, keys).problems == ()
