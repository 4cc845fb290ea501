"""What a certificate says of a table that was released instead of a model, held against the job."""

import math
from collections.abc import Iterator

from sordino_protocols.certificate import Certificate
from sordino_protocols.certificate_claims import table_costs
from sordino_protocols.certificate_facts import TableClaims
from sordino_protocols.certificate_problems import TOLERANCE, Problem, false
from sordino_protocols.job import Job
from sordino_protocols.plan import SynthesisPlan

_COSTS = ("epsilon", "epsilon_without_masks")


def check_table(certificate: Certificate, job: Job) -> Iterator[Problem]:
    """Problems of the table that a run is said to have released; none of a run with a model."""
    table, plan = certificate.table, job.plan
    if (table is None) != (plan.tabulation is None):
        yield false("table", "goes with a job that synthesizes or counts, and only with one")
    if table is None or plan.tabulation is None:
        return
    yield from _check_making(table, plan.synthesis)
    if not table.sites or not set(table.sites) <= set(certificate.sites):
        yield false("table.sites", "names nobody, or a site that was not admitted")
    if not table.files:
        yield false("table.files", "a run that released a table has a file")
    claimed = (table.epsilon, table.epsilon_without_masks)
    for name, value, proven in zip(_COSTS, claimed, table_costs(job), strict=True):
        if not math.isclose(value, proven, rel_tol=TOLERANCE):
            yield false(f"table.{name}", f"is not what the job's plan costs: {proven:.6g}")


def _check_making(table: TableClaims, plan: SynthesisPlan | None) -> Iterator[Problem]:
    """How it was made, and of a sum who is missing in it."""
    if table.mode != (plan and plan.mode):
        yield false("table.mode", "is not the job's")
    if table.generator != (plan and plan.generator.kind):
        yield false("table.generator", "is not the job's")
    named = plan.sites if plan is not None and plan.mode == "sum" else ()
    if set(table.missing) != set(named) - set(table.sites):
        yield false("table.missing", "is not who of the sum's sites is missing")
    if len(table.missing) > (plan.silent if plan else 0):
        yield false("table.missing", "are more sites than the job's noise allows for")
