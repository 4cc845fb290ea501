"""Tables that no honest site sends do not count; those that chance can make do."""

import numpy as np
import numpy.typing as npt
import pytest

from sordino_protocols.bits import unpack_bits
from sordino_protocols.errors import PeerError
from sordino_protocols.heads import SignedHead
from sordino_protocols.messages import Described, Integers, Tabulated, Unmasked
from sordino_protocols.plan import CountPlan, CountQuery, SynthesisMode, SynthesisPlan
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.specs import MixtureSpec
from sordino_server.admitted import Admitted
from sordino_server.strategy import ImplausibleError, Rejection
from sordino_server.table_acceptance import (
    accept_description,
    accept_table,
    accept_unmasking,
    cell_count,
    cell_stds,
    check_sum,
)

DIGEST = "ab" * 32
HEAD = SignedHead(1, "0a" * 32, "0b" * 64)
SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(2, 2, 1)),
        SetShape(items=3, at_most=2),
        SingleShape(groups=(1, 1)),
    ),
    label=2,
)
UNITS = 100
ADMITTED = Admitted(
    units={"a": UNITS, "b": UNITS}, feature_count=3, measured=unpack_bits("", 0), label_scale=1.0
)


def plan_of(mode: SynthesisMode, *, rows: int | None = None) -> SynthesisPlan:
    return SynthesisPlan(
        generator=MixtureSpec(),
        mode=mode,
        shape=SHAPE,
        schema_sha256="cd" * 32,
        noise_multiplier=2.0,
        sites=("a", "b") if mode == "sum" else (),
        rows=rows,
    )


def tabulated(numbers: npt.ArrayLike, *, digest: str = DIGEST) -> Tabulated:
    return Tabulated("run-1", digest, HEAD, np.asarray(numbers, np.int32))


def verdict(plan: SynthesisPlan | CountPlan, reply: Tabulated) -> Rejection | None:
    """Why a reply of site a does not count; None if it does."""
    try:
        accept_table(DIGEST, plan, ADMITTED)("a", reply)
    except ImplausibleError as error:
        return error.rejection
    return None


def counts_of(plan: SynthesisPlan, value: int = UNITS) -> Integers:
    return np.full(cell_count(plan.released_marginals), value, dtype=np.int32)


def test_marginals_must_be_what_units_and_noise_can_make() -> None:
    plan = plan_of("local")
    assert verdict(plan, tabulated(counts_of(plan))) is None
    assert verdict(plan, tabulated(counts_of(plan, 0))) is None
    for value in (-2_000, 2_000):
        for cell in (0, -1):
            changed = counts_of(plan)
            changed[cell] = value
            assert verdict(plan, tabulated(changed)) is Rejection.IMPLAUSIBLE
    assert verdict(plan, tabulated(counts_of(plan)[1:])) is Rejection.BAD_SHAPE
    assert verdict(plan, tabulated(counts_of(plan), digest="0" * 64)) is Rejection.MALFORMED


def test_honest_noise_is_believed() -> None:
    """False failure: each of 200 tables below 1e-9, as the check is made."""
    plan, rng = plan_of("local"), np.random.default_rng(7)
    stds = cell_stds(plan.released_marginals)
    assert len(set(stds)) > 1
    for _ in range(200):
        noisy = np.rint(rng.normal(0, stds)).astype(np.int32)
        assert verdict(plan, tabulated(noisy)) is None


def test_under_masks_any_number_may_be_there() -> None:
    plan, rng = plan_of("sum"), np.random.default_rng(8)
    masked = rng.integers(-(2**31), 2**31, len(counts_of(plan))).astype(np.int32)
    assert verdict(plan, tabulated(masked)) is None
    assert verdict(plan, tabulated(masked[1:])) is Rejection.BAD_SHAPE
    check = accept_unmasking(DIGEST, plan)
    check("a", Unmasked("run-1", DIGEST, HEAD, masked))
    with pytest.raises(ImplausibleError):
        check("a", Unmasked("run-1", DIGEST, HEAD, masked[1:]))


def test_a_sum_whose_masks_do_not_cancel_is_found() -> None:
    plan, rng = plan_of("sum"), np.random.default_rng(9)
    check_sum(counts_of(plan, 2 * UNITS), plan, ADMITTED, sites=("a", "b"))
    masked = rng.integers(-(2**31), 2**31, len(counts_of(plan))).astype(np.int32)
    with pytest.raises(PeerError, match="masks do not cancel"):
        check_sum(masked, plan, ADMITTED, sites=("a", "b"))


def test_rows_must_be_cells_of_the_domain_and_not_too_many() -> None:
    plan = plan_of("table")
    # Positions: five fine cells; three items of a set, there or not; two cells.
    good = np.tile([4, 1, 0, 1, 1], (50, 1))
    assert verdict(plan, tabulated(good.reshape(-1))) is None
    for position, cell in ((0, 5), (0, -1), (1, 2), (4, 2)):
        bad = good.copy()
        bad[7, position] = cell
        assert verdict(plan, tabulated(bad.reshape(-1))) is Rejection.IMPLAUSIBLE
    assert verdict(plan, tabulated(good.reshape(-1)[1:])) is Rejection.BAD_SHAPE
    assert verdict(plan, tabulated([])) is Rejection.BAD_SHAPE
    too_many = np.tile([0, 0, 0, 0, 0], (10 * UNITS + 1, 1)).reshape(-1)
    assert verdict(plan, tabulated(too_many)) is Rejection.BAD_SHAPE


def test_a_job_that_wants_so_many_rows_gets_no_others() -> None:
    rows = np.zeros(5 * 30, dtype=np.int32)
    assert verdict(plan_of("table", rows=30), tabulated(rows)) is None
    assert verdict(plan_of("table", rows=31), tabulated(rows)) is Rejection.BAD_SHAPE


def test_answers_to_queries_must_be_as_many_and_possible() -> None:
    queries = tuple(CountQuery(name, (("age", ">= 30"),)) for name in ("old", "older"))
    plan = CountPlan(queries, noise_multiplier=3.0)
    assert verdict(plan, tabulated([UNITS, -5])) is None
    assert verdict(plan, tabulated([UNITS])) is Rejection.BAD_SHAPE
    assert verdict(plan, tabulated([UNITS, -100])) is Rejection.IMPLAUSIBLE
    assert verdict(plan, tabulated([2_000, 0])) is Rejection.IMPLAUSIBLE


@pytest.mark.parametrize("said", ["", "{}", "[" * 5_000, '{"dataset": 3}', "x" * 5_000_000])
def test_a_schema_that_cannot_be_read_does_not_count(said: str) -> None:
    with pytest.raises(ImplausibleError) as raised:
        accept_description(None)("a", Described("run-1", said))
    assert raised.value.rejection is Rejection.MALFORMED
