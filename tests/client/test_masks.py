"""Masks vanish in the sum of all sites, hide a table until then, and are told of few sites only."""

import base64
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy import stats

from sordino_client.refusals import RefusedError
from sordino_client.synthesis.mask_keys import (
    MaskKeys,
    load_mask_keys,
    save_mask_keypair,
)
from sordino_client.synthesis.masks import checked_missing, masked, sum_of_masks
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.messages import Refusal
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape
from sordino_protocols.synthesis.specs import MixtureSpec

SITES = ("a", "b", "c", "d")
RUN, JOB = "run-1", "0" * 64


def all_keys() -> dict[str, MaskKeys]:
    """Everybody's keys, each with the others' pinned."""
    keys = {name: X25519PrivateKey.generate() for name in SITES}
    return {
        name: MaskKeys(name, key, {each: keys[each].public_key() for each in SITES if each != name})
        for name, key in keys.items()
    }


def test_the_sum_of_all_masked_tables_is_the_sum_of_the_tables() -> None:
    keys, rng = all_keys(), np.random.default_rng(1)
    tables = {name: rng.integers(-1000, 100_000, 500) for name in SITES}
    total = np.zeros(500, dtype=np.uint32)
    for name, table in tables.items():
        total += masked(table, keys[name], SITES, run_id=RUN, job_digest=JOB).view(np.uint32)
    assert total.view(np.int32).tolist() == np.sum(list(tables.values()), axis=0).tolist()


def test_silent_sites_are_made_up_for_by_the_masks_that_the_others_tell() -> None:
    keys, rng = all_keys(), np.random.default_rng(2)
    tables = {name: rng.integers(-50, 50, 30) for name in SITES}
    missing, present = ("b", "d"), ("a", "c")
    total = np.zeros(30, dtype=np.uint32)
    for name in present:
        total += masked(tables[name], keys[name], SITES, run_id=RUN, job_digest=JOB).view(np.uint32)
        total -= sum_of_masks(keys[name], missing, SITES, run_id=RUN, job_digest=JOB, count=30)
    assert total.view(np.int32).tolist() == (tables["a"] + tables["c"]).tolist()


def test_with_one_table_missing_the_sum_is_noise() -> None:
    keys = all_keys()
    zeros, total = np.zeros(20_000, dtype=np.int64), np.zeros(20_000, dtype=np.uint32)
    for name in SITES[:3]:
        total += masked(zeros, keys[name], SITES, run_id=RUN, job_digest=JOB).view(np.uint32)
    # Uniform by their highest byte: a statistic this large has probability 1e-9.
    counts = np.bincount(total >> 24, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-9


def test_no_mask_is_used_in_two_runs_jobs_or_cohorts_or_by_two_pairs() -> None:
    keys = all_keys()

    def mask(
        others: tuple[str, ...] = ("b",),
        sites: tuple[str, ...] = SITES,
        run_id: str = RUN,
        job_digest: str = JOB,
    ) -> bytes:
        masks = sum_of_masks(
            keys["a"], others, sites, run_id=run_id, job_digest=job_digest, count=8
        )
        return masks.tobytes()

    different = [
        mask(),
        mask(run_id="run-2"),
        mask(job_digest="1" * 64),
        mask(sites=("a", "b", "c")),
        mask(others=("c",)),
    ]
    assert len(set(different)) == len(different)
    assert mask() == mask()
    # In whichever order the sites are named.
    assert mask(sites=("d", "c", "b", "a")) == mask()


def test_an_outsider_with_all_public_keys_has_other_masks() -> None:
    keys = all_keys()
    outsider = MaskKeys("a", X25519PrivateKey.generate(), keys["a"].peers)
    for other in SITES[1:]:
        own, guessed = (
            sum_of_masks(each, (other,), SITES, run_id=RUN, job_digest=JOB, count=4).tolist()
            for each in (keys["a"], outsider)
        )
        assert own != guessed


def plan_of(mode: str = "sum", silent: int = 1) -> SynthesisPlan:
    shape = DomainShape(columns=(SingleShape(groups=(1, 1)),), label=None)
    mode_of: dict[str, SynthesisPlan] = {
        each: SynthesisPlan(MixtureSpec(), each, shape, "0" * 64, 3.0, "record", SITES, silent)
        for each in ("local", "table", "sum")
    }
    return mode_of[mode]


@pytest.mark.parametrize(
    ("named", "silent", "refusal"),
    [
        ("", 1, Refusal.FORBIDDEN_BY_POLICY),
        ("b,c", 1, Refusal.FORBIDDEN_BY_POLICY),
        ("b,c,d", 2, Refusal.FORBIDDEN_BY_POLICY),
        ("b", 0, Refusal.FORBIDDEN_BY_POLICY),
        ("a", 1, Refusal.FORBIDDEN_BY_POLICY),
        ("a,b", 2, Refusal.FORBIDDEN_BY_POLICY),
        ("eve", 1, Refusal.FORBIDDEN_BY_POLICY),
        ("c,b", 2, Refusal.MALFORMED),
        ("b,b", 2, Refusal.MALFORMED),
    ],
)
def test_a_server_that_names_others_than_silent_sites_is_refused(
    named: str, silent: int, refusal: Refusal
) -> None:
    with pytest.raises(RefusedError) as caught:
        checked_missing(named, plan_of(silent=silent), site="a")
    assert caught.value.refusal is refusal


def test_masks_are_told_of_as_many_sites_as_may_be_silent_and_in_sums_only() -> None:
    assert checked_missing("b,d", plan_of(silent=2), site="a") == ("b", "d")
    for plan in (plan_of("local"), plan_of("table"), None):
        with pytest.raises(RefusedError) as caught:
            checked_missing("b", plan, site="a")
        assert caught.value.refusal is Refusal.OUT_OF_ORDER


# ---------------------------------------------------------------------- keys as files


def pinned(directory: Path, names: tuple[str, ...] = SITES) -> Path:
    """Key pairs of all, and a directory of everybody's public keys."""
    peers = directory / "peers"
    peers.mkdir()
    for name in names:
        save_mask_keypair(directory, name)
        (peers / f"{name}.mask.pub").write_bytes((directory / f"{name}.mask.pub").read_bytes())
    return peers


def test_keys_from_files_make_the_masks_that_the_other_site_makes(tmp_path: Path) -> None:
    peers = pinned(tmp_path)
    keys = {name: load_mask_keys(tmp_path / f"{name}.mask.key", peers, site=name) for name in SITES}
    assert sorted(keys["a"].peers) == ["b", "c", "d"]
    for one, other in itertools.combinations(SITES, 2):
        mine, theirs = (
            sum_of_masks(keys[each], (peer,), SITES, run_id=RUN, job_digest=JOB, count=5)
            for each, peer in ((one, other), (other, one))
        )
        assert not (mine + theirs).any()
        assert mine.any()
    assert keys["a"].unknown(("a", "b", "eve")) == ("eve",)
    assert "X25519" not in repr(keys["a"])


def test_a_private_key_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    peers = pinned(tmp_path)
    secret = tmp_path / "a.mask.key"
    assert secret.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError):
        save_mask_keypair(tmp_path, "a")
    secret.chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        load_mask_keys(secret, peers, site="a")


def line(raw: bytes, name: str = "b", algorithm: str = "x25519") -> str:
    return f"{algorithm} {base64.b64encode(raw).decode()} {name}\n"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda peers: (peers / "b.mask.pub").write_text("nonsense"), "expected one line"),
        (lambda peers: (peers / "b.mask.pub").write_text(line(bytes(31))), "expected one line"),
        (lambda peers: (peers / "b.mask.pub").write_text(line(b"x" * 32, "c")), "expected one"),
        (
            lambda peers: (peers / "b.mask.pub").write_text(line(b"x" * 32, "b", "ed25519")),
            "expected one line",
        ),
        # The point 0: whatever the private key, the secret is 0.
        (lambda peers: (peers / "b.mask.pub").write_text(line(bytes(32))), "no secret can be"),
        (
            lambda peers: (peers / "b.mask.pub").write_text(
                (peers / "c.mask.pub").read_text().replace(" c\n", " b\n")
            ),
            "one key, one site",
        ),
        (
            lambda peers: (peers / "a.mask.pub").write_text(line(b"y" * 32, "a")),
            "not the public half",
        ),
    ],
)
def test_a_peers_key_that_cannot_be_right_is_an_error(
    tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    peers = pinned(tmp_path)
    change(peers)
    with pytest.raises(InputError, match=problem):
        load_mask_keys(tmp_path / "a.mask.key", peers, site="a")


def test_absent_keys_are_named(tmp_path: Path) -> None:
    peers = pinned(tmp_path)
    with pytest.raises(NotFoundError, match=r"z\.mask\.key"):
        load_mask_keys(tmp_path / "z.mask.key", peers, site="z")
    with pytest.raises(NotFoundError, match="nowhere"):
        load_mask_keys(tmp_path / "a.mask.key", tmp_path / "nowhere", site="a")
    (tmp_path / "a.mask.key").write_text("no key")
    with pytest.raises(InputError, match="X25519 private key"):
        load_mask_keys(tmp_path / "a.mask.key", peers, site="a")
