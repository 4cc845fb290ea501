"""Whether a job may be run here: who signed it, what it costs, what the policy says, if it fits.

Nothing here looks at a record, and nothing here changes anything. The same job is judged again and
again, at each inquiry and while it waits for people: what depends on the job alone (its price, the
second opinions on it, a trial step on made-up units) is worked out once.
"""

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.policy import Decision, Policy, decide
from sordino_client.refusals import RefusedError
from sordino_client.suitability import unsuitable
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_protocols.cross_check import AccountantsDisagreeError, check_accountants
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job, SignedJob, verify_job
from sordino_protocols.messages import Refusal
from sordino_protocols.pricing import Price, price
from sordino_protocols.privacy import Event, Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.signing import TrustStore

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """What the admin decides, and may decide anew while the vault runs.

    Attributes:
        policy: None: there is no such file, and everything is refused.
        submitters: whose jobs count.
        approvers: whose yes counts where the policy asks for one.
    """

    policy: Policy | None
    submitters: TrustStore
    approvers: TrustStore


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of a job at this site, at this time.

    Attributes:
        job: as signed.
        cost: of the whole run.
        decision: by the first rule that decides.
        lineage: whose budget the job would draw on.
        budget: of the lineage; None where the policy knows none.
        rules: what it was judged by.
    """

    job: Job
    cost: Price
    decision: Decision
    lineage: str
    budget: Guarantee | None
    rules: Rules


class Judge:
    """Judges jobs for one site. Not for several threads: the site has the lock."""

    def __init__(
        self,
        site: str,
        datasets: Mapping[str, SiteDataset],
        engine: Engine,
        *,
        masks: MaskKeys | None = None,
        second_opinion: Callable[[Event, float], object] = check_accountants,
    ) -> None:
        """A judge.

        Args:
            site: this site's name.
            datasets: what is here.
            engine: what jobs are tried on.
            masks: the site's keys for sums; None where it has none, and takes part in no sum.
            second_opinion: raises `AccountantsDisagreeError` where other accountants differ.
        """
        self._site = site
        self._datasets = datasets
        self._engine = engine
        self._masks = masks
        self._second_opinion = second_opinion
        self._prices: OrderedDict[str, Price] = OrderedDict()
        self._suitable: OrderedDict[tuple[str, str], Decision | None] = OrderedDict()

    def judge(self, signed: SignedJob, rules: Rules, *, now: dt.datetime) -> Judgement:
        """Judge a job whose submitter has a key here.

        Raises:
            AuthenticationError: the submitter is not trusted, or did not sign it.
            PeerError: it is no job of a version known here.
            RefusedError: it costs more than it says, or names columns that the data set lacks.
        """
        job = verify_job(signed, rules.submitters)
        cost = _once(self._prices, signed.digest, lambda: self._priced(job))
        schema = self._schema(job)
        decision = decide(
            rules.policy,
            job,
            cost,
            submitter=signed.submitter,
            site=self._site,
            schema=schema,
            now=now,
        )
        if schema is not None and decision.is_allowed:
            decision = self._unsuitable(job, schema) or decision
        budget = self.budget(job, rules)
        return Judgement(job, cost, decision, self.lineage(job), budget, rules)

    def described(self, signed: SignedJob, rules: Rules) -> Schema:
        """The schema that a job would be run on, if a submitter with a key here signed it.

        Raises:
            AuthenticationError: the submitter is not trusted, or did not sign it.
            PeerError: it is no job of a version known here.
            RefusedError: there is no such data set here, or it lacks a column that the job names.
        """
        job = verify_job(signed, rules.submitters)
        schema = self._schema(job)
        if schema is None:
            raise RefusedError(Refusal.UNKNOWN_DATASET, "the job's data set is not here")
        return schema

    def budget(self, job: Job, rules: Rules) -> Guarantee | None:
        """What the data set's lineage may release, ever; None where the policy does not say."""
        policy = rules.policy
        if policy is None or job.file.job.dataset not in policy.file.datasets:
            return None
        return policy.budget(self.lineage(job))

    def lineage(self, job: Job) -> str:
        """Whose budget a job draws on."""
        dataset = self._datasets.get(job.file.job.dataset)
        return job.file.job.dataset if dataset is None else dataset.schema.lineage

    def _priced(self, job: Job) -> Price:
        try:
            cost = price(job)
            self._second_opinion(job.plan.event, cost.delta)
        except AccountantsDisagreeError as error:
            raise RefusedError(Refusal.ACCOUNTANTS_DISAGREE, str(error)) from None
        except InputError as error:
            raise RefusedError(Refusal.UNPRICEABLE, str(error)) from None
        return cost

    def _schema(self, job: Job) -> Schema | None:
        dataset = self._datasets.get(job.file.job.dataset)
        try:
            return None if dataset is None else dataset.schema.narrowed(job.file.job.columns)
        except InputError as error:
            raise RefusedError(Refusal.WRONG_TASK, str(error)) from None

    def _unsuitable(self, job: Job, schema: Schema) -> Decision | None:
        key = (job.digest(), schema.digest())
        return _once(
            self._suitable, key, lambda: unsuitable(job, schema, self._engine, self._masks)
        )


def _once(known: OrderedDict[_Key, _Value], key: _Key, make: Callable[[], _Value]) -> _Value:
    """What was made for this key, the last few keys being remembered; a failure is not."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
    return known[key]
