"""Whether a job that synthesizes or counts can be run on a data set: declared facts alone.

A job carries the shape of the table that it is priced for. A site whose own schema has another one
would measure something else than was paid for, or fail when it was paid; so it refuses at once.
"""

from collections.abc import Iterator

from sordino_client.policy import Decision, denied
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_protocols.counting import predicates_of
from sordino_protocols.errors import InputError
from sordino_protocols.limits import MAX_VECTOR_LENGTH
from sordino_protocols.messages import Refusal
from sordino_protocols.plan import CountPlan, SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of


def of_synthesis(plan: SynthesisPlan, schema: Schema, masks: MaskKeys | None) -> Iterator[Decision]:
    """Why a synthesis does not fit a data set, or a site."""
    declared = schema.synthesis_digest()
    if plan.schema_sha256 != declared:
        rule = "the job: synthesis.schema_sha256"
        yield denied(Refusal.WRONG_TASK, rule, plan.schema_sha256, declared)
    try:
        shape = domain_of(schema).shape
    except InputError as error:
        yield denied(Refusal.WRONG_TASK, f"the schema: {error}", "synthesis", "no synthesis")
        return
    if plan.shape != shape:
        yield denied(
            Refusal.WRONG_TASK,
            "the job: synthesis.shape",
            f"{len(plan.shape.columns)} columns, {plan.shape.position_count} positions",
            f"the schema's: {len(shape.columns)} columns, {shape.position_count} positions",
        )
    numbers = sum(each.cells for each in plan.released_marginals)
    if plan.mode == "table":
        numbers = (plan.rows or 0) * shape.position_count
    if numbers > MAX_VECTOR_LENGTH:
        yield denied(
            Refusal.WRONG_TASK, "the size of a message", f"{numbers}", f"<= {MAX_VECTOR_LENGTH}"
        )
    if plan.mode == "sum":
        yield from _of_masks(plan, masks)


def of_counts(plan: CountPlan, schema: Schema) -> Iterator[Decision]:
    """Why counting queries do not fit a data set."""
    try:
        predicates_of(plan.queries, schema)
    except InputError as error:
        yield denied(
            Refusal.WRONG_TASK, "the job: counting.queries", str(error), "what the schema declares"
        )


def _of_masks(plan: SynthesisPlan, masks: MaskKeys | None) -> Iterator[Decision]:
    if masks is None:
        yield denied(
            Refusal.FORBIDDEN_BY_POLICY, "site.toml: site.mask_key", "a sum", "no sum: no mask_key"
        )
        return
    unknown = masks.unknown(plan.sites)
    if unknown or masks.site not in plan.sites:
        asked = ", ".join(unknown) or "a sum without this site"
        pinned = ", ".join(sorted(masks.peers)) or "nobody"
        yield denied(Refusal.FORBIDDEN_BY_POLICY, "site.toml: site.peers", asked, pinned)
