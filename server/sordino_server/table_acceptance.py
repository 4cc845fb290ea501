"""Which of the sites' tables count: each check raises what `Strategy` logs as a rejection.

A table counts if the site's units, its noise and the job's domain can make it. Under masks nothing
can be seen of one site's table; the sum is looked at instead, once the masks are gone.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.messages import Described, Integers, Tabulated, Unmasked
from sordino_protocols.plan import CountPlan, SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape, width_of
from sordino_server.admitted import Admitted
from sordino_server.answers import ImplausibleError, Rejection

LARGEST_SCHEMA_BYTES = 4 * 1024 * 1024

# As for every count: a declared order of magnitude may be off by half an order, and still be one.
_HALF_AN_ORDER = math.sqrt(10)
_FALSE_ALARM = 1e-9


def accept_description(schema_sha256: str | None) -> Callable[[str, Described], None]:
    """Schemas that can be read, and are what the job was made for.

    Args:
        schema_sha256: the job's; None if any schema will do.
    """

    def check(_site: str, reply: Described) -> None:
        if schema_sha256 not in {None, _digest(read_schema(reply))}:
            raise ImplausibleError(Rejection.IMPLAUSIBLE, "the schema is not the job's")

    return check


def read_schema(reply: Described) -> Schema:
    """The schema in a site's answer.

    Raises:
        ImplausibleError: there is none.
    """
    content = reply.schema_json.encode()
    if len(content) > LARGEST_SCHEMA_BYTES:
        raise ImplausibleError(Rejection.MALFORMED, "a schema that is too long")
    try:
        return Schema.model_validate_json(content)
    except (ValueError, InputError):
        raise ImplausibleError(Rejection.MALFORMED, "a schema that cannot be read") from None


def _digest(schema: Schema) -> str:
    try:
        return schema.synthesis_digest()
    except InputError:
        raise ImplausibleError(Rejection.MALFORMED, "a schema without its words") from None


def accept_table(
    job_digest: str, plan: SynthesisPlan | CountPlan, admitted: Admitted
) -> Callable[[str, Tabulated], None]:
    """Tables, rows or answers that the site's units and noise can make."""

    def check(site: str, reply: Tabulated) -> None:
        _require_job(reply.job_digest, job_digest)
        units = admitted.units[site]
        match plan:
            case CountPlan():
                _require_length(reply.numbers, len(plan.queries))
                _believe_counts(reply.numbers, [plan.noise_multiplier], units=units)
            case SynthesisPlan(mode="table"):
                check_rows(reply.numbers, plan.shape, units=units, rows=plan.rows)
            case SynthesisPlan(mode="sum"):
                _require_length(reply.numbers, cell_count(plan.released_marginals))
            case SynthesisPlan():
                _require_length(reply.numbers, cell_count(plan.released_marginals))
                _believe_counts(reply.numbers, cell_stds(plan.released_marginals), units=units)

    return check


def accept_unmasking(job_digest: str, plan: SynthesisPlan) -> Callable[[str, Unmasked], None]:
    """Masks for this job and of the right number; what they are, the sum will show."""

    def check(_site: str, reply: Unmasked) -> None:
        _require_job(reply.job_digest, job_digest)
        _require_length(reply.numbers, cell_count(plan.released_marginals))

    return check


def check_sum(
    total: Integers, plan: SynthesisPlan, admitted: Admitted, *, sites: Sequence[str]
) -> None:
    """Return if a sum without its masks is one that units and noise can make.

    Masks that do not cancel leave numbers all over the 32 bits.

    Args:
        total: all marginals, flat.
        plan: of the run.
        admitted: the run's sites.
        sites: whose tables are in the sum.

    Raises:
        PeerError: it is not: some site's keys, or what it sent, are not those of the others.
    """
    units = sum(admitted.units[site] for site in sites)
    stds = cell_stds(plan.released_marginals) * math.sqrt(len(sites))
    if not _is_possible(total, stds, units=units):
        raise PeerError(
            "the sum is none that units and noise can make: the sites' masks do not cancel"
        )


def check_rows(numbers: Integers, shape: DomainShape, *, units: int, rows: int | None) -> None:
    """Return if numbers are rows of cells, and no more of them than a site may make.

    Args:
        numbers: flat.
        shape: of the cells.
        units: the site's declared order of magnitude.
        rows: how many the job wants; None if the site estimates it.

    Raises:
        ImplausibleError: they are not.
    """
    positions = shape.position_count
    if len(numbers) == 0 or len(numbers) % positions:
        raise ImplausibleError(Rejection.BAD_SHAPE, "no whole rows of cells")
    found = len(numbers) // positions
    # An estimate may be off by its noise, which for a small site is more than it has units.
    most = max(10 * units, 1_000) if rows is None else rows
    if found > most or (rows is not None and found != rows):
        raise ImplausibleError(Rejection.BAD_SHAPE, "another number of rows")
    table = numbers.reshape(found, positions)
    if table.min() < 0 or (table >= _cells_at(shape)).any():
        raise ImplausibleError(Rejection.IMPLAUSIBLE, "cells that the job's domain does not have")


def cell_count(marginals: Sequence[Marginal]) -> int:
    """Numbers in all marginals together."""
    return sum(each.cells for each in marginals)


def cell_stds(marginals: Sequence[Marginal]) -> npt.NDArray[np.float64]:
    """Standard deviation of the noise on every count, in the order of the release."""
    return np.repeat([each.noise_std for each in marginals], [each.cells for each in marginals])


def _cells_at(shape: DomainShape) -> npt.NDArray[np.int64]:
    """How many cells each position of a row has: a set's item is there or is not."""
    cells = [each.fine if isinstance(each, SingleShape) else 2 for each in shape.columns]
    return np.repeat(cells, [width_of(each) for each in shape.columns])


def _require_job(said: str, job_digest: str) -> None:
    if said != job_digest:
        raise ImplausibleError(Rejection.MALFORMED, "an answer for another job")


def _require_length(numbers: Integers, length: int) -> None:
    if numbers.shape != (length,):
        raise ImplausibleError(Rejection.BAD_SHAPE, "a table of another length")


def _believe_counts(numbers: Integers, stds: npt.ArrayLike, *, units: int) -> None:
    if not _is_possible(numbers, np.asarray(stds, dtype=np.float64), units=units):
        raise ImplausibleError(Rejection.IMPLAUSIBLE, "counts that units and noise cannot make")


def _is_possible(numbers: Integers, stds: npt.NDArray[np.float64], *, units: int) -> bool:
    """Whether no count is below its noise, or above its noise and all units that may be there.

    An honest one fails with probability below 1e-9: a union over Gaussian tails.
    """
    noise = stds * math.sqrt(2 * math.log(2 * len(numbers) / _FALSE_ALARM)) + 1
    return bool(np.all(numbers >= -noise) and np.all(numbers <= _HALF_AN_ORDER * units + noise))
