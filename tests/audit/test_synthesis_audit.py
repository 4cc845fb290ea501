"""A5 as a whole: a job's synthesis is audited, and the outcome is a document and a page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_documents import OCCASION
from synthesis_faults import a_tenth_less_noise

from sordino_audit.audit_code import synthesized
from sordino_audit.audit_config import AuditConfig
from sordino_audit.audit_document import SynthesisDetail
from sordino_audit.bounds import gaussian
from sordino_audit.findings import Severity, Verdict
from sordino_audit.report_page import render
from sordino_audit.report_synthesis import synthesis_document
from sordino_audit.sealing import read_document, to_json
from sordino_audit.synthesis.assessment import Code, Subject, audit_synthesis
from sordino_audit.synthesis.canary_tables import canary_schema
from sordino_audit.synthesis.publication import Effort, local_pipeline, table_pipeline
from sordino_audit.synthesis.reading import filled_in, read_subject, subject_of
from sordino_audit.synthesis.result import SynthesisAudit, SynthesisDesign
from sordino_audit.synthesis.row_attacks import EVERYTHING, positions_by_column, without
from sordino_audit.synthesis.structure import structure
from sordino_client.training.noise import SecureNoise
from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.files import read_toml
from sordino_protocols.job import JobFile
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.pricing import resolve
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.specs import (
    GeneratorSpec,
    MixtureSpec,
    NadeSpec,
    PrivBayesSpec,
)

SCHEMA = canary_schema()
SMALL = SynthesisDesign(runs=40_000, records=60)
NADE = NadeSpec(kind="nade", steps=2, hidden=8, sampling_rate=0.1)
JOB = """
[job]
name = "first"
dataset = "canaries"
kind = "synthesize"
[privacy]
unit = "record"
epsilon = 1.0
delta = 1e-5
[synthesis.generator]
kind = "mixture"
components = 10
"""


def subject(generator: GeneratorSpec, *, noise_multiplier: float = 3.73) -> Subject:
    plan = SynthesisPlan(
        generator=generator,
        mode="local" if isinstance(generator, MixtureSpec) else "table",
        shape=domain_of(SCHEMA).shape,
        schema_sha256=SCHEMA.synthesis_digest(),
        noise_multiplier=noise_multiplier,
    )
    return Subject("first", plan, SCHEMA, 1e-5)


@pytest.fixture(scope="module")
def audit() -> SynthesisAudit:
    return audit_synthesis(subject(MixtureSpec(components=10)), SMALL)


# --- the audit


def test_nothing_contradicts_the_product(audit: SynthesisAudit) -> None:
    assert [each for each in audit.findings if each.severity is Severity.VIOLATION] == []
    assert all(each.is_passed for each in audit.probes)
    assert audit.claim.epsilon == pytest.approx(1.0, rel=0.02)
    assert audit.white_box.claimed_epsilon == pytest.approx(audit.claim.epsilon, rel=0.01)
    assert audit.detectable < 0.1
    assert any("No attack with shadow releases" in each for each in audit.blind_spots)


def test_the_page_and_the_document_say_the_same(audit: SynthesisAudit) -> None:
    document = synthesis_document(audit, occasion=OCCASION)
    assert read_document(to_json(document).encode(), source="audit.json") == document
    assert isinstance(document.detail, SynthesisDetail)
    page = render(document)
    assert "Distances to records: inadequate" in page
    assert "The white box rests on 40,000 readings" in page
    assert len(document.measurements) == len(SCHEMA.columns) - 1 + 1  # no text, and everything
    bounds = [each.epsilon_low or 0.0 for each in document.bounds]
    assert bounds[0] <= bounds[-1]
    assert document.lower_bound == bounds[0]


def test_a_release_with_a_tenth_less_noise_is_a_violation() -> None:
    found = audit_synthesis(
        subject(MixtureSpec(components=4)), SMALL, code=Code(release=a_tenth_less_noise)
    )
    assert found.verdict is Verdict.VIOLATION
    assert found.exit_code is ExitCode.AUDIT_VIOLATION
    # The white box finds it, too, at this little privacy loss in nine audits of ten.
    assert "scale of secret noise in counts: a table" in {each.check for each in found.findings}


def test_rows_that_are_copied_are_a_violation() -> None:
    rng = np.random.default_rng(2)

    def copying(cells: np.ndarray) -> np.ndarray:
        return cells[rng.permutation(len(cells))]

    design = replace(SMALL, runs=1_000, shadows=60, judged=60)
    found = audit_synthesis(
        subject(PrivBayesSpec(kind="privbayes")), design, code=Code(synthesize=copying)
    )
    assert found.verdict is Verdict.VIOLATION
    severities = {each.check: each.severity for each in found.findings}
    assert severities["query-based, with shadow releases"] is Severity.VIOLATION
    assert severities[f"divergence of {EVERYTHING}"] is Severity.SUSPECT
    assert found.nearest.identical == 1.0
    assert found.releases == 241


def test_a_neural_generator_meets_a_discriminator() -> None:
    found = audit_synthesis(subject(NADE), replace(SMALL, runs=1_000))
    assert found.discriminator is not None
    assert 0.0 <= found.discriminator <= 1.0
    assert found.releases == 1


# --- structure of all that leaves


def test_no_odd_table_shows_in_what_is_published_of_marginals() -> None:
    found = structure(local_pipeline(Effort()), noise=SecureNoise())
    assert found.is_passed, found.message


@pytest.mark.parametrize(
    "generator", [PrivBayesSpec(kind="privbayes"), NADE], ids=lambda each: each.kind
)
def test_no_odd_table_shows_in_rows_that_a_site_makes(generator: GeneratorSpec) -> None:
    found = structure(table_pipeline(generator, Effort()), noise=SecureNoise())
    assert found.is_passed, found.message


def test_the_target_of_an_attack_has_its_cells_to_itself() -> None:
    shape = DomainShape(
        columns=(SingleShape(groups=(1, 1)), SetShape(items=3, at_most=2)), label=None
    )
    target = np.array([1, 0, 1, 1], dtype=np.int32)
    cells = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], dtype=np.int32)
    assert without(target, cells, shape).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_queries_of_a_set_take_all_its_items() -> None:
    found = {name: list(places) for name, places in positions_by_column(SCHEMA).items()}
    assert found["towers"] == [4, 5, 6, 7]
    assert found["work"] == [8]
    assert found[EVERYTHING] == list(range(9))


# --- from files


def test_a_job_file_is_audited_with_its_schema(tmp_path: Path) -> None:
    job, schema = tmp_path / "job.toml", tmp_path / "dataset.toml"
    job.write_text(JOB)
    schema.write_text(
        """
        [dataset]
        name = "canaries"
        version = 1
        order_of_magnitude = 100
        holdout_fraction = 0.2
        [columns.x]
        type = "integer"
        min = 0
        max = 9
        [columns.y]
        type = "category"
        values = ["no", "yes"]
        [roles]
        label = "y"
        positive_values = ["yes"]
        """
    )
    found = read_subject(job, schema=schema)
    assert found.claim.epsilon == pytest.approx(1.0, rel=0.01)
    assert found.plan.shape == domain_of(found.schema).shape
    reports = tmp_path / "reports"
    made = synthesized(found, replace(SMALL, runs=2_000), AuditConfig(reports=reports))
    assert made.filed is not None
    assert read_document(made.filed.read_bytes(), source="report") == made.document
    assert made.document.provenance.job_sha256 == found.job_sha256


def test_a_job_about_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    job = resolve(filled_in(read_toml(path, JobFile), SCHEMA))
    assert subject_of(job, SCHEMA).claim.delta == 1e-5
    with pytest.raises(InputError, match="another schema"):
        subject_of(job, SCHEMA.narrowed(["age", "sex"]))


def test_a_job_file_without_a_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    with pytest.raises(InputError, match="--schema"):
        read_subject(path, schema=None)


def test_the_noise_of_the_white_box_is_that_of_the_claim(audit: SynthesisAudit) -> None:
    mu = gaussian.mu_from_epsilon(audit.claim.epsilon, audit.claim.delta)
    assert audit.white_box.claimed_mu == pytest.approx(mu, rel=1e-3)
