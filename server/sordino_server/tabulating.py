"""The one question of a run that makes a table: asked, checked, and written down.

What must stay true: a run that was interrupted asks again with the same bytes, and not at all once
it has its table. Of the sites of a sum it is decided once, and on disk before anybody is asked for
a mask, who counts as missing: whoever was called missing never enters the sum, however late its
table comes, for by then the server could bare that table of its masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from sordino_protocols.errors import PeerError
from sordino_protocols.messages import (
    Describe,
    Described,
    Integers,
    Tabulate,
    Tabulated,
    Unmask,
    Unmasked,
)
from sordino_protocols.plan import CountPlan, SynthesisPlan
from sordino_server.admitted import Admitted
from sordino_server.questions import FailureCause, Questions, RunFailedError
from sordino_server.runs import DESCRIPTIONS, ROWS, TABLES, RunDirectory
from sordino_server.table_acceptance import (
    accept_description,
    accept_table,
    accept_unmasking,
    check_sum,
    read_schema,
)
from sordino_server.table_facts import Descriptions

SUM = "sum"
"""What the one table of a sum is called, where others are called after their sites."""

_MASKED = "masked.safetensors"

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Tables:
    """What the sites of a run released.

    Attributes:
        numbers: by site, flat, as `messages.Tabulated` has them; of a sum the one table `SUM`.
        sites: whose release is in them.
        missing: sites of a sum that are not.
    """

    numbers: Mapping[str, Integers]
    sites: tuple[str, ...]
    missing: tuple[str, ...] = ()


def describe(
    run: RunDirectory, questions: Questions, cohort: Sequence[str], *, schema_sha256: str | None
) -> Descriptions:
    """Have the sites say what is public of the data set; kept in the run's directory.

    Args:
        run: the run.
        questions: asks its sites.
        cohort: whom to ask.
        schema_sha256: of the schema that the job was made for; None if any will do.

    Raises:
        RunFailedError: the quorum did not answer.
    """
    request = Describe(run.run_id, run.manifest().job)
    check = accept_description(schema_sha256)
    outcome = questions.ask(cohort, request, Described, check=check)
    answers = sorted(outcome.answers.items())
    found = Descriptions(sites={site: read_schema(each) for site, each in answers})
    run.save(DESCRIPTIONS, found)
    return found


def collect(
    run: RunDirectory, questions: Questions, plan: SynthesisPlan | CountPlan, admitted: Admitted
) -> Tables:
    """Have the sites release their tables; kept in the run's directory.

    Raises:
        RunFailedError: the quorum did not answer; of a sum, too many are missing, those who are
            there did not help with the masks of the others, or the masks do not cancel.
    """
    match plan:
        case SynthesisPlan(mode="sum"):
            return _sum(run, questions, plan, admitted)
        case SynthesisPlan(mode="table"):
            name, columns = ROWS, plan.shape.position_count
        case _:
            name, columns = TABLES, 0
    numbers = _tables(run, name)
    if not numbers:
        numbers = _tabulated(run, questions, plan, admitted)
        shape = (-1, columns) if columns else (-1,)
        _keep(run, name, {site: each.reshape(shape) for site, each in numbers.items()})
    flat = {site: each.reshape(-1) for site, each in numbers.items()}
    return Tables(flat, tuple(sorted(flat)))


def _sum(
    run: RunDirectory, questions: Questions, plan: SynthesisPlan, admitted: Admitted
) -> Tables:
    """Add up masked tables, and take off the masks whose other half is missing."""
    masked = _masked(run, questions, plan, admitted)
    here = tuple(sorted(masked))
    missing = tuple(site for site in plan.sites if site not in masked)
    kept = _tables(run, TABLES)
    if not kept:
        total = _modular_sum(masked)
        if missing:
            total -= _modular_sum(_unmasked(run, questions, plan, here=here, missing=missing))
        kept = {SUM: total.view(np.int32)}
        try:
            check_sum(kept[SUM], plan, admitted, sites=here)
        except PeerError as error:
            raise RunFailedError(str(error)) from None
        _keep(run, TABLES, kept)
    return Tables(kept, here, missing)


def _masked(
    run: RunDirectory, questions: Questions, plan: SynthesisPlan, admitted: Admitted
) -> Mapping[str, Integers]:
    """The masked tables that count: once they are on disk, nobody else's ever does."""
    masked = _tables(run, _MASKED)
    if not masked:
        _check_missing(set(plan.sites) - set(admitted.sites), plan)
        masked = _tabulated(run, questions, plan, admitted)
        missing = set(plan.sites) - set(masked)
        _check_missing(missing, plan)
        _keep(run, _MASKED, masked)
        run.record("summing", sites=sorted(masked), missing=sorted(missing))
    return masked


def _check_missing(missing: set[str], plan: SynthesisPlan) -> None:
    if len(missing) > plan.silent:
        raise RunFailedError(
            f"{len(missing)} sites of the sum are missing ({', '.join(sorted(missing))});"
            f" the job allows for {plan.silent}",
            cause=FailureCause.NO_QUORUM,
        )


def _tabulated(
    run: RunDirectory, questions: Questions, plan: SynthesisPlan | CountPlan, admitted: Admitted
) -> dict[str, Integers]:
    digest = run.manifest().job.digest
    request = Tabulate(run.run_id, digest)
    check = accept_table(digest, plan, admitted)
    outcome = questions.ask(admitted.sites, request, Tabulated, check=check)
    return {site: outcome.answers[site].numbers for site in sorted(outcome.answers)}


def _unmasked(
    run: RunDirectory,
    questions: Questions,
    plan: SynthesisPlan,
    *,
    here: Sequence[str],
    missing: Sequence[str],
) -> dict[str, Integers]:
    """What each site added to its table with the missing ones in mind."""
    digest = run.manifest().job.digest
    request = Unmask(run.run_id, digest, ",".join(missing))
    check = accept_unmasking(digest, plan)
    # All of them: a mask that one keeps to itself hides the whole sum.
    outcome = questions.ask(here, request, Unmasked, check=check, quorum=len(here))
    return {site: each.numbers for site, each in outcome.answers.items()}


def _modular_sum(tables: Mapping[str, Integers]) -> Words:
    """Modulo 2^32, in which masks cancel."""
    words = [np.ascontiguousarray(each).view(np.uint32) for each in tables.values()]
    total: Words = np.sum(words, axis=0, dtype=np.uint32)
    return total


def _tables(run: RunDirectory, name: str) -> dict[str, Integers]:
    """What an earlier attempt has written; nothing if none did."""
    return dict(load(run.content(name))) if run.has(name) else {}


def _keep(run: RunDirectory, name: str, tables: Mapping[str, Integers]) -> None:
    arrays = {site: np.ascontiguousarray(each) for site, each in tables.items()}
    run.save_content(name, save(arrays))
