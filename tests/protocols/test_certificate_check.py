"""Verification: what is good holds; every changed field is found, whoever signed it again."""

import copy
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from certified import (
    AUDITOR,
    JOB_TEXT,
    MODEL_FILE,
    OUTSIDER,
    SERVER,
    SITE_KEYS,
    TRUSTED,
    admission,
    certificate,
    job,
    keys,
    made,
    receipt,
    store,
    summary,
    understated,
)
from pydantic import JsonValue
from small_job import read_file

from sordino_protocols.certificate import Certificate, attach, read_certificate
from sordino_protocols.certificate_check import (
    TrustedKeys,
    Verification,
    check_job_file,
    check_model,
    verify_certificate,
)
from sordino_protocols.certificate_claims import planned_steps
from sordino_protocols.certificate_facts import key_facts
from sordino_protocols.errors import ExitCode, IntegrityError
from sordino_protocols.heads import sign_head
from sordino_protocols.messages import Receipt
from sordino_protocols.privacy import Gaussian, event_to_json
from sordino_protocols.signing import Signer, canonical_json
from sordino_protocols.wire import seal

Path = tuple[str | int, ...]

# What only the server knows: its own signature is all that speaks for it, as `limits` says.
SERVERS_WORD = {"issued_at", "model_sha256", "evaluation"}


@dataclass(frozen=True)
class Judged:
    """What verification says of any JSON document."""

    exit_code: int
    fields: tuple[str, ...]
    text: str


def judge(document: JsonValue, trusted: TrustedKeys = TRUSTED) -> Judged:
    try:
        read = read_certificate(canonical_json(document))
    except IntegrityError as error:
        return Judged(error.exit_code, (), str(error))
    found = verify_certificate(read, trusted)
    return Judged(
        found.exit_code,
        tuple(problem.field for problem in found.problems),
        "\n".join(f"{each.field}: {each.reason}" for each in found.problems),
    )


def document() -> JsonValue:
    loaded: JsonValue = json.loads(certificate().canonical())
    return loaded


def leaves(value: JsonValue, path: Path = ()) -> Iterator[Path]:
    """Every field; of a list the first and the last, and of the sites one: the others are alike."""
    match value:
        case dict() if value:
            for key in ["va"] if path == ("sites",) else value:
                yield from leaves(value[key], (*path, key))
        case list() if value:
            for index in sorted({0, len(value) - 1}):
                yield from leaves(value[index], (*path, index))
        case _:
            yield path


def parts(value: JsonValue, path: Path = ()) -> Iterator[Path]:
    """Every list of the document, from which something may be left out; as `leaves`."""
    match value:
        case dict():
            for key in ["va"] if path == ("sites",) else value:
                yield from parts(value[key], (*path, key))
        case list() if value:
            yield path
            for index in sorted({0, len(value) - 1}):
                yield from parts(value[index], (*path, index))
        case _:
            pass


def changed(path: Path, change: Callable[[JsonValue], JsonValue]) -> JsonValue:
    whole = copy.deepcopy(document())
    place: JsonValue = whole
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]  # the path came from here
    place[path[-1]] = change(place[path[-1]])  # type: ignore[index]
    return whole


def other(value: JsonValue) -> JsonValue:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.9 + 1e-9
        case str() if len(value) > 2:
            middle = len(value) // 2
            return value[:middle] + ("1" if value[middle] != "1" else "2") + value[middle + 1 :]
        case None:
            return "a" * 64
        case list() | dict():
            return [*value, *value] or ["one more"]
        case _:
            return f"{value}1"


def signed_again(whole: JsonValue, signer: Signer) -> JsonValue:
    """As if `signer` had issued it, under the server's name."""
    try:
        read = read_certificate(canonical_json(whole))
    except IntegrityError:
        return whole
    if read.audits == certificate().audits:
        # Bound to the certificate that it was made for: it alone would give the forger away.
        read = read.model_copy(update={"audits": ()})
    key = key_facts(read.server.name, signer.key.public_key())
    issued: JsonValue = json.loads(
        read.model_copy(update={"server": key}).signed_by(signer).canonical()
    )
    return issued


def spelled(path: Path) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def names(judged: Judged, path: Path) -> bool:
    """Whether a problem names the field, a part of it or what it is a part of.

    An auditor's one signature is over a whole audit, the submitter's over the whole job.
    """
    if path[0] == "job" and "job.signature" in judged.fields:
        return True
    field = spelled(path[:2] if path[0] == "audits" else path)
    return any(each.startswith(field) or field.startswith(each) for each in judged.fields) or (
        ".".join(map(str, path)).replace("[", ".") in judged.text
    )


LEAVES = list(leaves(json.loads(certificate().canonical())))
PARTS = list(parts(json.loads(certificate().canonical())))


def test_a_good_certificate_holds() -> None:
    found = verify_certificate(certificate(), TRUSTED)
    assert found == Verification((), ())
    assert found.exit_code is ExitCode.OK
    assert len(LEAVES) > 100


@pytest.mark.parametrize("path", LEAVES, ids=spelled)
def test_a_changed_field_is_found_also_when_an_outsider_signs_again(path: Path) -> None:
    whole = changed(path, other)
    for forged in (whole, signed_again(whole, OUTSIDER)):
        found = judge(forged)
        assert found.exit_code == ExitCode.INTEGRITY
        assert found.text


@pytest.mark.parametrize(
    "path",
    [path for path in LEAVES if path[0] not in SERVERS_WORD | {"server", "signature"}],
    ids=spelled,
)
def test_a_changed_field_is_found_and_named_when_the_server_itself_signs_again(path: Path) -> None:
    found = judge(signed_again(changed(path, other), SERVER))
    assert found.exit_code in {ExitCode.INTEGRITY, ExitCode.AUDIT_VIOLATION}
    assert names(found, path), found.text


@pytest.mark.parametrize("path", [path for path in PARTS if path != ("audits",)], ids=spelled)
def test_something_left_out_is_found_when_the_server_itself_signs_again(path: Path) -> None:
    def without_last(value: JsonValue) -> JsonValue:
        assert isinstance(value, list)
        return value[:-1]

    whole = changed(path, without_last)
    found = judge(signed_again(whole, SERVER))
    if path[0] == "evaluation":
        assert "evaluation.noise_std" in found.fields
    assert found.exit_code in {ExitCode.INTEGRITY, ExitCode.AUDIT_VIOLATION}


# ------------------------------------------------------------------ lies that are well signed


def _lies(change: Callable[[Receipt], Receipt]) -> Verification:
    return verify_certificate(made().changed("va", change).certificate(), TRUSTED)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (understated, "epsilon_spent_pld"),
        (lambda found: replace(found, epsilon_spent_rdp=1.0), "epsilon_spent_rdp"),
        (lambda found: replace(found, epsilon_planned=1.0), "epsilon_planned"),
        (lambda found: replace(found, epsilon_planned=40.0), "epsilon_planned"),
        (lambda found: replace(found, budget_spent=0.5), "budget.spent"),
        (lambda found: replace(found, budget_spent=13.0), "budget.spent"),
        (lambda found: replace(found, budget_left=-1.0), "budget.left"),
        (lambda found: replace(found, budget_delta=0.0), "budget.delta"),
        (lambda found: replace(found, delta=1e-3), "delta"),
    ],
)
def test_a_site_that_understates_is_found(change: Callable[[Receipt], Receipt], field: str) -> None:
    found = _lies(change)
    assert found.exit_code is ExitCode.AUDIT_VIOLATION
    assert f"sites.va.claims.{field}" in {problem.field for problem in found.problems}


@pytest.mark.parametrize(
    "events",
    [
        [Gaussian(1e-4)],
        [*planned_steps(job().plan), planned_steps(job().plan)[1]],
        [Gaussian(2.0, "entity")],
    ],
)
def test_events_outside_the_plan_are_no_receipt(events: list[Gaussian]) -> None:
    charged = canonical_json([event_to_json(each) for each in events]).decode("ascii")
    issued = made().changed("va", lambda found: replace(found, events_json=charged)).certificate()
    # The server assumes the whole plan.
    assert not issued.sites["va"].claims.is_settled
    assert verify_certificate(issued, TRUSTED).problems == ()
    # A server that shows it all the same is found, and nothing of it is priced.
    shown = made().changed("va", lambda found: replace(found, events_json=charged))
    forged = _with_receipt(issued, shown.receipts["va"])
    found = verify_certificate(forged, TRUSTED)
    assert found.exit_code is ExitCode.AUDIT_VIOLATION
    assert [problem.field for problem in found.problems] == ["sites.va.claims.releases"]


def _with_receipt(issued: Certificate, shown: Receipt | None) -> Certificate:
    assert shown is not None
    sealed = b64encode(seal(shown, SITE_KEYS["va"])).decode("ascii")
    sites = dict(issued.sites)
    sites["va"] = sites["va"].model_copy(update={"receipt": sealed})
    return issued.model_copy(update={"sites": sites}).signed_by(SERVER)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: replace(found, run_id="train-other"), "another run_id"),
        (lambda found: replace(found, job_digest="00" * 32), "another job.digest"),
        (lambda found: replace(found, coins="aa"), "committed"),
        (lambda found: replace(found, coins="55aa"), "cannot be read"),
        (lambda found: replace(found, coins_salt="zz"), "cannot be read"),
    ],
)
def test_a_receipt_that_does_not_belong_is_found(
    change: Callable[[Receipt], Receipt], reason: str
) -> None:
    found = _lies(change)
    assert found.exit_code is ExitCode.INTEGRITY
    assert any(
        problem.field == "sites.va.receipt" and reason in problem.reason
        for problem in found.problems
    )


def test_a_ledger_that_went_back_is_found() -> None:
    short = sign_head(SITE_KEYS["va"], length=6, hash="0b" * 32)
    found = _lies(lambda each: replace(each, ledger_head=short))
    assert [problem.field for problem in found.problems] == ["sites.va.claims.ledger_settled"]
    assert found.exit_code is ExitCode.INTEGRITY


def test_a_head_that_the_site_did_not_sign_is_found() -> None:
    with pytest.raises(Exception, match="signature is not"):
        made().changed(
            "va", lambda each: replace(each, ledger_head=admission("cleveland").ledger_head)
        ).certificate()


def test_a_site_without_a_receipt_is_taken_to_have_spent_its_plan() -> None:
    issued = made().without("va").certificate()
    claims = issued.sites["va"].claims
    assert verify_certificate(issued, TRUSTED).problems == ()
    assert not claims.is_settled
    assert claims.epsilon_spent_pld == pytest.approx(receipt("va").epsilon_spent_pld)
    assert issued.composition.table == made().certificate().composition.table


def test_two_names_for_one_key_are_found() -> None:
    issued = certificate()
    sites = {**issued.sites, "copy": issued.sites["va"]}
    forged = issued.model_copy(update={"sites": sites}).signed_by(SERVER)
    found = verify_certificate(forged, TrustedKeys(server=store(SERVER)))
    assert "sites" in {problem.field for problem in found.problems}
    assert found.exit_code is ExitCode.INTEGRITY


def test_fewer_sites_than_the_quorum_are_found() -> None:
    issued = certificate()
    forged = issued.model_copy(update={"sites": {"va": issued.sites["va"]}}).signed_by(SERVER)
    found = verify_certificate(forged, TRUSTED)
    assert "sites" in {problem.field for problem in found.problems}


# ------------------------------------------------------------------ keys, model, job, audits


def test_without_keys_the_verification_says_that_nobody_vouches() -> None:
    found = verify_certificate(certificate(), TrustedKeys())
    assert found.problems == ()
    # The server, three sites, the submitter and the auditor.
    assert len(found.notes) == 6


@pytest.mark.parametrize(
    ("trusted", "field"),
    [
        (TrustedKeys(server=store(OUTSIDER)), "server.public_key"),
        (TrustedKeys(server=store(Signer("server", OUTSIDER.key))), "server.public_key"),
        (TrustedKeys(sites=store(SITE_KEYS["va"])), "sites.cleveland.public_key"),
        (TrustedKeys(submitters=store(OUTSIDER)), "job.signature"),
        (TrustedKeys(submitters=store(Signer("scientist", OUTSIDER.key))), "job.signature"),
        (TrustedKeys(auditors=store(OUTSIDER)), "audits[0].auditor"),
    ],
)
def test_a_key_that_is_not_trusted_is_found(trusted: TrustedKeys, field: str) -> None:
    found = verify_certificate(certificate(), trusted)
    assert found.exit_code is ExitCode.INTEGRITY
    assert field in {problem.field for problem in found.problems}


def test_the_model_is_the_one_that_was_released() -> None:
    assert [*check_model(certificate(), MODEL_FILE)] == []
    problems = [*check_model(certificate(), MODEL_FILE + b"\0")]
    assert [problem.field for problem in problems] == ["model_sha256"]


def test_the_job_file_is_the_one_that_was_run() -> None:
    assert [*check_job_file(certificate(), read_file(JOB_TEXT))] == []
    problems = [*check_job_file(certificate(), read_file(JOB_TEXT.replace("= 2.0", "= 2.5")))]
    assert [problem.field for problem in problems] == ["job.body"]


@pytest.mark.parametrize(
    ("changes", "field", "exit_code"),
    [
        ({"verdict": "violation"}, "summary.verdict", ExitCode.AUDIT_VIOLATION),
        ({"lower_bound": 4.5}, "summary.verdict", ExitCode.AUDIT_VIOLATION),
        ({"claimed": 1.0}, "summary.claimed", ExitCode.AUDIT_VIOLATION),
        ({"run_id": "train-other"}, "summary.run_id", ExitCode.INTEGRITY),
    ],
)
def test_an_audit_that_speaks_against_the_promise_is_found(
    changes: dict[str, JsonValue], field: str, exit_code: ExitCode
) -> None:
    audited = attach(made().certificate(), summary().model_copy(update=changes), AUDITOR)
    found = verify_certificate(audited, TRUSTED)
    assert [problem.field for problem in found.problems] == [f"audits[0].{field}"]
    assert found.exit_code is exit_code


def test_an_audit_cannot_be_moved_to_another_certificate() -> None:
    elsewhere = made().without("va").certificate()
    moved = elsewhere.model_copy(update={"audits": certificate().audits})
    found = verify_certificate(moved, TRUSTED)
    assert [problem.field for problem in found.problems] == ["audits[0].signature"]


def test_an_outsider_cannot_speak_for_the_auditor() -> None:
    forged = attach(made().certificate(), summary(), Signer("auditor", keys("mallory").key))
    assert verify_certificate(forged, TRUSTED).exit_code is ExitCode.INTEGRITY
