"""Auditing many runs: one that cannot be audited stops no other, and the worst is what counts."""

import pytest
from audit_documents import of_a_run

from sordino_audit.filing import Audited
from sordino_audit.findings import Finding, Severity
from sordino_audit.sweep import Outcome, sweep, worst
from sordino_protocols.errors import ExitCode, InputError, IntegrityError, SordinoError


def audit(run: str) -> Audited:
    match run:
        case "silent":
            raise InputError("no site answered every round")
        case "forked":
            finding = Finding("ledger", Severity.VIOLATION, "fork")
            return Audited(of_a_run(noise_ratio=0.5), None, ledgers=(finding,))
        case "broken":
            return Audited(of_a_run(noise_ratio=0.5), None)
        case _:
            return Audited(of_a_run(), None)


def test_goes_on_after_one_fails() -> None:
    told: list[Outcome] = []
    outcomes = sweep(["silent", "good", "broken", "forked"], audit, tell=told.append)
    assert told == outcomes
    assert [(each.run, each.verdict) for each in outcomes] == [
        ("silent", "error"),
        ("good", "loose"),
        ("broken", "violation"),
        ("forked", "violation"),
    ]
    assert [each.exit_code for each in outcomes] == [2, 0, 9, 8]
    assert outcomes[0].message == "no site answered every round"


def test_a_bug_of_ours_is_no_outcome() -> None:
    def broken(_: str) -> Audited:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sweep(["any"], broken, tell=lambda _: None)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], ExitCode.OK),
        ([0, 11], ExitCode.AUDIT_INCONCLUSIVE),
        ([0, 5, 11], ExitCode.ERROR),
        ([2, 10], ExitCode.AUDIT_SUSPECT),
        ([8, 10], ExitCode.INTEGRITY),
        ([8, 9, 2], ExitCode.AUDIT_VIOLATION),
    ],
)
def test_the_worst_counts(codes: list[int], expected: ExitCode) -> None:
    outcomes = [Outcome("run", "any", ExitCode(code), "") for code in codes]
    assert worst(outcomes) is expected


def test_every_error_of_ours_has_a_place() -> None:
    for kind in (SordinoError, InputError, IntegrityError):
        assert worst([Outcome("run", "error", kind.exit_code, "")]) is not ExitCode.OK
