"""The auditor's memory of ledgers, across runs and in any order."""

from pathlib import Path

import pytest
from certified import SERVER, SITE_KEYS, made

from sordino_audit.findings import Finding, Severity
from sordino_audit.heads import HeadMemory, remember_heads
from sordino_protocols.certificate import Certificate
from sordino_protocols.certificate_facts import HeadFacts, head_facts, key_facts
from sordino_protocols.errors import IntegrityError
from sordino_protocols.heads import sign_head
from sordino_protocols.signing import Signer

SITE = "va"


def certified(
    day: int, admitted: int, settled: int, *, history: str = "a", signer: Signer | None = None
) -> Certificate:
    """A run of one day; all its sites but one have ledgers that grow day by day."""
    issued = made().certificate()
    sites = dict(issued.sites)
    for name, site in sites.items():
        first, last = (admitted, settled) if name == SITE else (100 * day, 100 * day + 9)
        key = signer if signer is not None and name == SITE else SITE_KEYS[name]
        heads = {
            "ledger_admitted": _head(key, first, history if name == SITE else "a"),
            "ledger_settled": _head(key, last, history if name == SITE else "a"),
        }
        public = key_facts(name, key.key.public_key())
        sites[name] = site.model_copy(
            update={
                "public_key": public.public_key,
                "claims": site.claims.model_copy(update=heads),
            }
        )
    changes = {"sites": sites, "run_id": f"run-{day}", "issued_at": _at(day, 12)}
    return issued.model_copy(update=changes).signed_by(SERVER)


def _head(key: Signer, length: int, history: str) -> HeadFacts:
    return head_facts(sign_head(key, length=length, hash=f"{length:x}{history}".rjust(64, "0")))


def _at(day: int, hour: int) -> str:
    return f"2026-01-{day:02}T{hour:02}:00:00.000+00:00"


def remembered(path: Path, certificate: Certificate) -> list[Finding]:
    day = int(certificate.run_id.removeprefix("run-"))
    return remember_heads(path, certificate, created=_at(day, 10))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "audit-heads.json"


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (1, 1, 2, 3, 2)])
def test_a_ledger_that_grows_is_no_finding_in_whatever_order_it_is_seen(
    memory: Path, order: tuple[int, ...]
) -> None:
    runs = {1: certified(1, 3, 8), 2: certified(2, 10, 14), 3: certified(3, 15, 20)}
    assert [remembered(memory, runs[day]) for day in order] == [[]] * len(order)
    seen = HeadMemory.model_validate_json(memory.read_bytes())
    assert len(seen.sites[SITE].heads) == 6


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_entries_that_are_gone_are_a_regression(memory: Path, order: tuple[int, int]) -> None:
    runs = {1: certified(1, 30, 38), 2: certified(2, 5, 9)}
    assert remembered(memory, runs[order[0]]) == []
    found = remembered(memory, runs[order[1]])
    assert {finding.severity for finding in found} == {Severity.VIOLATION}
    assert all("regression: the ledger of site va had 38" in each.message for each in found[-1:])
    assert not any("cleveland" in finding.message for finding in found)


def test_runs_at_the_same_time_prove_no_regression(memory: Path) -> None:
    together = certified(1, 30, 38)
    other = certified(1, 25, 36)
    assert remembered(memory, together) == []
    assert remembered(memory, other.model_copy(update={"run_id": "run-1"})) == []


def test_two_histories_are_a_fork(memory: Path) -> None:
    assert remembered(memory, certified(1, 3, 8)) == []
    (found,) = remembered(memory, certified(2, 8, 12, history="b"))
    assert "fork: the ledger of site va has two histories: entry 8" in found.message


def test_another_key_is_found_and_not_believed(memory: Path) -> None:
    assert remembered(memory, certified(1, 3, 8)) == []
    new_key = Signer(SITE, SITE_KEYS["cleveland"].key)
    (found,) = remembered(memory, certified(2, 10, 14, signer=new_key))
    assert "another key" in found.message
    assert remembered(memory, certified(3, 15, 20)) == []


def test_a_head_that_the_site_did_not_sign_is_found_and_not_kept(memory: Path) -> None:
    issued = certified(1, 3, 8)
    site = issued.sites[SITE]
    forged = sign_head(SITE_KEYS["cleveland"], length=8, hash="0c" * 32)
    claims = site.claims.model_copy(update={"ledger_settled": head_facts(forged)})
    sites = {**issued.sites, SITE: site.model_copy(update={"claims": claims})}
    (found,) = remembered(memory, issued.model_copy(update={"sites": sites}))
    assert "did not sign" in found.message
    assert SITE not in HeadMemory.model_validate_json(memory.read_bytes()).sites


def test_a_memory_that_cannot_be_read_is_an_error(memory: Path) -> None:
    memory.write_text("{}")
    with pytest.raises(IntegrityError, match="cannot be read"):
        remembered(memory, certified(1, 3, 8))
