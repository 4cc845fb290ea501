"""Documents of audits: stable, hashed, true to the audit, and honest in words."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_documents import OCCASION, RUN_ID, lane_audit, of_a_run, of_an_installation
from lane_simulation import claim_of, simulate, training_plan

from sordino_audit.audit_document import AuditDocument, schema_json
from sordino_audit.findings import Severity
from sordino_audit.lanes import audit_lanes
from sordino_audit.report import finite, rounded_scores, run_document
from sordino_audit.sealing import canonical_hash, read_document, sealed, to_json, verify
from sordino_audit.summary import read_summary
from sordino_protocols.clipping import AdaptiveClipping, NormalizedClipping, PerLayerClipping
from sordino_protocols.errors import InputError, IntegrityError

SCHEMA = Path(__file__).parents[2] / "docs" / "audit-report.schema.json"
FORBIDDEN = re.compile(r"\b(safe|secure|proved|proven|guaranteed|anonymous)\b", re.IGNORECASE)


def test_the_published_schema_is_the_models() -> None:
    """To publish it anew: `sordino audit schema > docs/audit-report.schema.json`."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_json()


def test_every_part_of_the_schema_is_described_and_closed() -> None:
    schema = json.loads(schema_json())
    objects = [each for each in [schema, *schema["$defs"].values()] if each["type"] == "object"]
    assert len(objects) > 15
    for part in objects:
        assert part["description"]
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])


@pytest.mark.parametrize("issued", [of_a_run(), of_an_installation()], ids=["run", "self-test"])
def test_survives_a_round_trip_and_still_verifies(issued: AuditDocument) -> None:
    read = read_document(to_json(issued).encode(), source="x")
    assert read == issued
    verify(read)


@pytest.mark.parametrize(
    "change", [{"verdict": "tight"}, {"lower_bound": 0.0001}, {"previous": "00"}, {"more": 1}]
)
def test_any_altered_field_breaks_the_hash(change: dict[str, object]) -> None:
    altered = {**json.loads(to_json(of_a_run())), **change}
    with pytest.raises(IntegrityError, match="altered"):
        read_document(json.dumps(altered).encode(), source="x")


def test_a_changed_object_does_not_verify() -> None:
    with pytest.raises(IntegrityError, match="altered"):
        verify(of_a_run().model_copy(update={"lower_bound": 9.0}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lower_bound": "0.5"}, "lower_bound"),
        ({"kind": "site"}, "the whole"),
        ({"exit_code": 9}, "the whole"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 4}, "version 4"),
    ],
)
def test_a_well_hashed_document_that_is_none_is_refused(
    change: dict[str, object], says: str
) -> None:
    raw = {**json.loads(to_json(of_a_run())), **change}
    raw["hash"] = canonical_hash(raw)
    with pytest.raises(InputError, match=says):
        read_document(json.dumps(raw).encode(), source="x")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"hash": 1}', b"[" * 100_000])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="no audit's document"):
        read_document(content, source="x")


def test_the_hash_covers_the_previous_audit() -> None:
    after = [sealed(of_a_run().model_copy(update={"previous": each})) for each in ("ab", "cd")]
    assert after[0].hash != after[1].hash


def test_says_what_the_audit_says() -> None:
    audit, issued = lane_audit(), of_a_run()
    assert (issued.verdict, issued.exit_code) == (audit.verdict, audit.exit_code)
    assert (issued.claimed, issued.delta) == (audit.claim.epsilon, audit.claim.delta)
    assert issued.lower_bound == audit.bounds[0].epsilon_low == issued.bounds[0].epsilon_low
    assert [each.standing for each in issued.bounds[: len(audit.bounds)]] == ["bound"] * 3
    beside = {each.name: each.standing for each in issued.bounds[len(audit.bounds) :]}
    assert beside == {each.name: each.standing for each in audit.comparisons}
    assert "convention" in beside.values()
    assert issued.detectable == audit.detectable.deficit
    assert issued.measurements[0].value == audit.noise.estimate
    assert len(issued.e_values) == len(audit.e_values)
    assert len(issued.tests) == len(audit.tests)
    assert issued.attacks[0].auc is not None
    assert len(issued.attacks[0].inserted) == issued.counts[0].inserted


def test_a_certificate_gets_the_same_facts() -> None:
    issued = of_a_run(noise_ratio=0.5)
    summary = read_summary(to_json(issued).encode(), source="x")
    assert (summary.document_hash, summary.verdict) == (issued.hash, "violation")
    assert summary.detectable == issued.detectable
    assert [each.message for each in summary.findings] == [each.message for each in issued.findings]


def test_a_certificate_takes_an_audit_of_version_2() -> None:
    """Version 2 had every field of a summary at the top, where version 3 has it, too."""
    current = read_summary(to_json(of_a_run()).encode(), source="x")
    old = {**current.model_dump(mode="json"), "schema_version": 2}
    del old["document_hash"]
    old["hash"] = canonical_hash(old)
    assert read_summary(json.dumps(old).encode(), source="x").verdict == current.verdict


def test_a_certificate_takes_no_test_of_code() -> None:
    with pytest.raises(InputError, match="no audit of a run"):
        read_summary(to_json(of_an_installation()).encode(), source="x")


def test_numbers_that_json_cannot_say() -> None:
    assert finite(float("inf")) is None
    assert finite(float("nan")) is None
    assert rounded_scores([float("inf"), 0.123456]) == (1e9, 0.1235)


def test_words_follow_the_verdict() -> None:
    assert "no more than was promised" in of_a_run().sentence
    broken = of_a_run(noise_ratio=0.5)
    assert "less noise than claimed" in broken.sentence
    assert any(each.severity is Severity.VIOLATION for each in broken.findings)
    assert "its silence means nothing" in of_a_run(lanes=2, rounds=1, sites=1).sentence
    assert "checks failed" in of_an_installation(is_passed=False).sentence


@pytest.mark.parametrize(
    "issued",
    [
        of_a_run(),
        of_a_run(noise_ratio=0.5),
        of_a_run(lanes=2, rounds=1, sites=1),
        of_an_installation(),
        of_an_installation(is_passed=False),
    ],
)
def test_promises_nothing_that_an_audit_cannot_know(issued: AuditDocument) -> None:
    text = " ".join([issued.sentence, issued.power.sentence, *issued.blind_spots])
    assert not FORBIDDEN.findall(text)
    assert len(issued.blind_spots) >= 4


def test_names_what_it_could_not_see() -> None:
    text = " ".join(of_a_run().blind_spots)
    assert "at most" in text
    assert "evaluation" in text
    assert "statistics" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unit": "entity"}, "groups records into entities"),
        ({"update": "delta"}, "the change of the model was made from the same noisy sums"),
        ({"clipping": AdaptiveClipping(kind="adaptive")}, "the coordinate that moves this norm"),
        ({"clipping": PerLayerClipping(kind="per_layer")}, "whose layers differ"),
        ({"clipping": NormalizedClipping(kind="normalized")}, "whose layers differ"),
    ],
)
def test_names_what_it_does_not_check_of_a_plan(change: dict[str, object], says: str) -> None:
    plan = replace(training_plan(lanes=20, rounds=3), **change)  # type: ignore[arg-type]
    observations = simulate(plan, np.random.default_rng(31))
    audit = audit_lanes(observations, plan, claim=claim_of(plan), confidence=0.95)
    issued = run_document(audit, run_id=RUN_ID, occasion=OCCASION)
    verify(issued)
    assert says in " ".join(issued.blind_spots)
    assert says not in " ".join(of_a_run().blind_spots)
