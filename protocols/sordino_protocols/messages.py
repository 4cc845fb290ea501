"""What sites and server say to each other: frozen, and valid by construction.

The server asks with `Recall`, `Describe`, `Inquire`, `Admit`, `Measure`, `RoundPlan`, `Evaluate`,
`Tabulate`, `Unmask` and `Settle`; a site answers with `Recalled`, `Described`, `Quote`,
`Admission`, `Statistics`, `Update`, `Evaluation`, `Tabulated`, `Unmasked`, `Receipt`, or with
`Refused` and an enum. Nothing else crosses the boundary: no loss, no count, no
text of an exception. Fields marked *declared* are facts that a site admin published; fields marked
*paid* were charged to the ledger before they existed.
`wire.py` turns these into signed bytes and back.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from sordino_protocols.heads import GENESIS, SignedHead
from sordino_protocols.job import SignedJob

Vector = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

WIRE_VERSION = 3
"""What this side says where it is not asked in another one."""
OLDEST_WIRE_VERSION = 2
"""What it still understands: servers and sites are not upgraded in the same minute."""


def _nothing() -> Vector:
    return np.zeros(0, dtype=np.float32)


class Refusal(StrEnum):
    """Why a site refuses: all that an outsider ever learns about a failure inside."""

    MALFORMED = "malformed"
    UNAUTHENTICATED = "unauthenticated"
    NOT_ADMITTED = "not_admitted"
    CHANGED_REPLAY = "changed_replay"
    WRONG_SHAPE = "wrong_shape"
    NOT_FINITE = "not_finite"
    NO_POLICY = "no_policy"
    FORBIDDEN_BY_POLICY = "forbidden_by_policy"
    APPROVAL_PENDING = "approval_pending"
    REJECTED = "rejected"
    WRONG_TASK = "wrong_task"
    UNTRAINABLE = "untrainable"
    BUDGET_EXHAUSTED = "budget_exhausted"
    UNKNOWN_DATASET = "unknown_dataset"
    UNPRICEABLE = "unpriceable"
    ACCOUNTANTS_DISAGREE = "accountants_disagree"
    OUT_OF_ORDER = "out_of_order"
    INTEGRITY = "integrity"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Recall:
    """Show a site the longest head of its ledger that the server remembers.

    A site whose ledger does not go on from there has lost entries: it says so, and works no more.

    Attributes:
        run_id: the run.
        remembered: the head.
        audit_length: entries in the server's audit log; 0 from a server that does not say.
        audit_head: hash of the newest of them; `GENESIS` where there is none.
    """

    run_id: str
    remembered: SignedHead
    audit_length: int = 0
    audit_head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask for the public schema of the data set that a job names; changes and costs nothing."""

    run_id: str
    job: SignedJob


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask what a job would cost here and whether it would be refused; changes nothing."""

    run_id: str
    job: SignedJob


@dataclass(frozen=True, slots=True)
class Admit:
    """Ask a site to take part in a run and to hold its whole planned cost."""

    run_id: str
    job: SignedJob


@dataclass(frozen=True, slots=True)
class Measure:
    """Ask for the noisy statistics of the features, before the first round."""

    run_id: str
    job_digest: str


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round: the weights to start from.

    Attributes:
        run_id: the run.
        job_digest: the job that the run was admitted with.
        round: counted from 1.
        weights: model parameters, then the threshold's under adaptive clipping, then lanes; flat.
        scaling: of the features, as `scaling.Scaling.vector`; empty for none.
    """

    run_id: str
    job_digest: str
    round: int
    weights: Vector = field(repr=False)
    scaling: Vector = field(repr=False, default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Ask for the noisy evaluation of the final weights; fields as of `RoundPlan`."""

    run_id: str
    job_digest: str
    weights: Vector = field(repr=False)
    scaling: Vector = field(repr=False, default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Tabulate:
    """Ask for the job's table: marginals, synthetic rows or answers to counting queries."""

    run_id: str
    job_digest: str


@dataclass(frozen=True, slots=True)
class Unmask:
    """Ask for the masks that a site shares with those that stayed silent, to finish the sum.

    Attributes:
        run_id: the run.
        job_digest: the job that the run was admitted with.
        missing: names of the silent sites, sorted, with commas between.
    """

    run_id: str
    job_digest: str
    missing: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Say that the run is over: unused holds return, the canaries' coins are opened."""

    run_id: str
    job_digest: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """A site's answer to `Recall`: its ledger goes on from the head that it was shown.

    Attributes:
        run_id: as asked.
        ledger_head: of the site's ledger when it answered.
        audit_length: entries in the site's audit log; 0 from a site that does not say.
        audit_head: hash of the newest of them; `GENESIS` where there is none.
    """

    run_id: str
    ledger_head: SignedHead
    audit_length: int = 0
    audit_head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Described:
    """A site's answer to `Describe`: what its admin published of the data set.

    Attributes:
        run_id: as asked.
        schema_json: the `schema.Schema`, canonical JSON.
    """

    run_id: str
    schema_json: str


@dataclass(frozen=True, slots=True)
class Quote:
    """A site's answer to `Inquire`. All fields are declared, or follow from the job.

    Attributes:
        run_id: as asked.
        refusal: why `Admit` would be refused now; None if it would be accepted.
        needs_approval: whether a person at the site would have to say yes first.
        rule: the policy rule that decided, as file and key.
        epsilon_pld: what the run would cost.
        epsilon_rdp: the same, as the lifetime budget counts.
        budget_left: epsilon of the data set's lifetime budget that no run holds.
        rounds_that_fit: how many of the job's rounds fit into what is left; 0 for none.
        noise_that_fits: the smallest training noise with which all of them would; 0 where none
            does.
    """

    run_id: str
    refusal: Refusal | None
    needs_approval: bool
    rule: str
    epsilon_pld: float
    epsilon_rdp: float
    budget_left: float
    rounds_that_fit: int
    noise_that_fits: float


@dataclass(frozen=True, slots=True)
class Admission:
    """A site takes part.

    Attributes:
        run_id: as asked.
        job_digest: of the job that is pinned from now on.
        order_of_magnitude: declared number of privacy units, a public constant.
        feature_count: declared by the schema.
        feature_digest: SHA-256 of the declared columns and roles: what the sites of a job share.
        measured: which features statistics are of, eight to a byte, hex; empty without statistics.
        label_scale: what an error of 1 in a scaled label is, in the label's units.
        coins_commitment: SHA-256 that binds the canaries' coins before the run.
        ledger_head: of the site's ledger when it answered.
    """

    run_id: str
    job_digest: str
    order_of_magnitude: int
    feature_count: int
    feature_digest: str
    measured: str
    label_scale: float
    coins_commitment: str
    ledger_head: SignedHead


@dataclass(frozen=True, slots=True)
class Statistics:
    """Noisy statistics of the features (paid), as `feature_statistics` lays them out."""

    run_id: str
    job_digest: str
    ledger_head: SignedHead
    vector: Vector = field(repr=False)


@dataclass(frozen=True, slots=True)
class Update:
    """A round's release (paid): noisy sums of clipped gradients, or what they changed."""

    run_id: str
    job_digest: str
    round: int
    ledger_head: SignedHead
    vector: Vector = field(repr=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The noisy table (paid) of `plan.EvaluationPlan.shape`, over held-out units, flat."""

    run_id: str
    job_digest: str
    ledger_head: SignedHead
    histogram: Vector = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tabulated:
    """A noisy table (paid) of whole numbers, as the job's plan lays it out.

    Attributes:
        run_id: as asked.
        job_digest: of the pinned job.
        ledger_head: of the site's ledger when it answered.
        numbers: flat. Of mode "local": all marginals, one after the other. Of mode "sum": the same
            with the site's share of the noise and its masks, modulo 2^32, as signed numbers. Of
            mode "table": synthetic rows of cells. Of a count: one number a query.
    """

    run_id: str
    job_digest: str
    ledger_head: SignedHead
    numbers: Integers = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unmasked:
    """The sum, modulo 2^32, of the masks that a site shares with the missing ones.

    It says nothing of a record: masks come from keys alone. What it can uncover, a missing site's
    table that the server has all the same, carries noise of its own and was paid for as such.
    """

    run_id: str
    job_digest: str
    ledger_head: SignedHead
    numbers: Integers = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run cost at a site, from its ledger, and the opened coins of its canaries.

    Attributes:
        run_id: as asked.
        job_digest: of the pinned job.
        epsilon_planned: held at admission, by PLD.
        epsilon_spent_pld: of everything charged for the run, by PLD.
        epsilon_spent_rdp: the same by the Rényi curve.
        delta: of all of them.
        events_json: the charged events, canonical JSON, in order.
        policy_sha256: of the policy under which the run was admitted, hex.
        approvals_json: who approved the run at the site, canonical JSON; a list, empty where nobody
            had to.
        budget_limit: the lifetime budget of the data set's lineage, in epsilon.
        budget_delta: the delta of that budget.
        budget_spent: what was ever spent of it, by the Rényi filter.
        budget_left: what no run has spent or holds.
        network_cut_off: whether the kernel cut the vault off from every network.
        coins: one per lane, packed eight to a byte, hex.
        coins_salt: what the commitment was salted with, hex.
        ledger_head: of the site's ledger when it answered.
        audit_length: as of `Recalled`.
        audit_head: as of `Recalled`.
    """

    run_id: str
    job_digest: str
    epsilon_planned: float
    epsilon_spent_pld: float
    epsilon_spent_rdp: float
    delta: float
    events_json: str
    policy_sha256: str
    approvals_json: str
    budget_limit: float
    budget_delta: float
    budget_spent: float
    budget_left: float
    network_cut_off: bool
    coins: str
    coins_salt: str
    ledger_head: SignedHead
    audit_length: int = 0
    audit_head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Refused:
    """A site does not do what it was asked. The enum is everything that is said outside."""

    run_id: str
    refusal: Refusal


Request = (
    Recall
    | Describe
    | Inquire
    | Admit
    | Measure
    | RoundPlan
    | Evaluate
    | Tabulate
    | Unmask
    | Settle
)
Reply = (
    Recalled
    | Described
    | Quote
    | Admission
    | Statistics
    | Update
    | Evaluation
    | Tabulated
    | Unmasked
    | Receipt
    | Refused
)
Message = Request | Reply
