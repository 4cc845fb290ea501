"""`policy.toml` as a person writes it: budgets, caps and rules, strictly read.

Deny by default: nothing here has a default that allows more than the file says, but for caps that
touch no promise. Whatever a cap says, no rule passes it.
"""

import datetime as dt
import re
import zoneinfo
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from sordino_protocols.files import STRICT
from sordino_protocols.job import JobKind
from sordino_protocols.plan import SynthesisMode
from sordino_protocols.privacy import Guarantee, PrivacyUnit
from sordino_protocols.words import ColumnName

ModelKind = Literal[
    "logistic", "mlp", "cnn", "resnet", "lstm", "gru", "transformer", "layers", "graph", "nade"
]
"""Every kind of model that a job can name."""

GeneratorKind = Literal["mixture", "mst", "privbayes", "nade", "vae"]
"""Every kind of generator that a job can name."""

Action = Literal["allow", "ask", "deny"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Epsilon = Annotated[float, Field(gt=0, le=1000)]
Delta = Annotated[float, Field(gt=0, lt=0.1)]

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")
_LARGEST_CLIPPING_NORM = 1e6
_MOST_LANES = 10_000


class BudgetRule(BaseModel):
    """`[budgets.<lineage>]`: everything ever released from a lineage's records, together."""

    model_config = STRICT

    epsilon: Epsilon
    delta: Delta

    @property
    def guarantee(self) -> Guarantee:
        """The budget as a guarantee."""
        return Guarantee(self.epsilon, self.delta)


class Terms(BaseModel):
    """What a job, its submitter and the hour can be held to; what is left out holds for all.

    What is about models, syntheses, counts or training says nothing to other jobs.

    Attributes:
        submitters: whose jobs.
        kinds: kinds of jobs.
        models: kinds of models.
        modes: of a synthesis.
        generators: kinds of generators, of a synthesis.
        units: privacy units.
        columns: the feature columns that a job may use; a job that names none uses all.
        max_epsilon: of one run.
        max_delta: of one run.
        max_rounds: of one run.
        max_steps: noisy steps of one run: rounds times local steps.
        min_units: the data set's declared order of magnitude.
        min_expected_batch: declared order of magnitude times sampling rate, of training.
        min_clipping_norm: of any round, of training.
        max_clipping_norm: of any round, as far as an adaptive one may be moved too; a larger norm
            means more noise, never less privacy.
        max_lanes: canary lanes of one run.
        max_queries: of one count.
        hours: "HH:MM-HH:MM" of the site's clock, from included, to excluded; over midnight too.
        days: of the week, by the site's clock.
        from_: the first day.
        until: the last day.
    """

    model_config = STRICT

    submitters: tuple[str, ...] | None = None
    kinds: tuple[JobKind, ...] | None = None
    models: tuple[ModelKind, ...] | None = None
    modes: tuple[SynthesisMode, ...] | None = None
    generators: tuple[GeneratorKind, ...] | None = None
    units: tuple[PrivacyUnit, ...] | None = None
    columns: tuple[ColumnName, ...] | None = None
    max_epsilon: Epsilon | None = None
    max_delta: Delta | None = None
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    max_steps: Annotated[int, Field(ge=1)] | None = None
    min_units: Annotated[int, Field(ge=1)] | None = None
    min_expected_batch: Annotated[float, Field(ge=0)] | None = None
    min_clipping_norm: Annotated[float, Field(gt=0)] | None = None
    max_clipping_norm: Annotated[float, Field(gt=0)] | None = None
    max_lanes: Annotated[int, Field(ge=0)] | None = None
    max_queries: Annotated[int, Field(ge=1)] | None = None
    hours: str | None = None
    days: tuple[Weekday, ...] | None = None
    from_: Annotated[dt.date | None, Field(alias="from")] = None
    until: dt.date | None = None

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, hours: str | None) -> str | None:
        if hours is not None:
            start, end = read_hours(hours)
            if start == end:
                raise ValueError("must not begin and end at the same minute: that is no time")
        return hours


class RuleSection(Terms):
    """`[[datasets.<name>.rules]]`: what to do with jobs for which every one of its terms holds.

    Attributes:
        action: "allow" them, "deny" them, or "ask" people.
        approvals: how many must say yes.
        approvers: who may say it; none named: everybody in the site's approvers directory.
        expires_after_hours: without enough answers by then, the job is rejected.
    """

    action: Action
    approvals: Annotated[int, Field(ge=1)] = 1
    approvers: tuple[str, ...] = ()
    expires_after_hours: Annotated[float, Field(gt=0, le=8760)] = 72.0


class DatasetPolicy(Terms):
    """`[datasets.<name>]`: the caps of one data set, which nobody passes, and its rules.

    Attributes:
        rules: the first whose terms hold decides; without any, what is within the caps is allowed.
    """

    submitters: tuple[str, ...]
    kinds: tuple[JobKind, ...]
    models: tuple[ModelKind, ...]
    units: tuple[PrivacyUnit, ...] = ("record", "entity")
    max_epsilon: Epsilon
    max_delta: Delta
    max_rounds: Annotated[int, Field(ge=1)]
    min_expected_batch: Annotated[float, Field(ge=0)]
    max_clipping_norm: Annotated[float, Field(gt=0)] = _LARGEST_CLIPPING_NORM
    max_lanes: Annotated[int, Field(ge=0)] = _MOST_LANES
    rules: tuple[RuleSection, ...] = ()


class PolicyFile(BaseModel):
    """`policy.toml`.

    Attributes:
        time_zone: of `hours`, `days`, `from` and `until`, such as "Europe/Zurich".
        budgets: by lineage, which is the data set's own name where it declares none.
        datasets: caps and rules by data set.
    """

    model_config = STRICT

    time_zone: str | None = None
    budgets: dict[str, BudgetRule] = {}
    datasets: dict[str, DatasetPolicy]

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        try:
            return name if name is None else zoneinfo.ZoneInfo(name).key
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                "must be a name of the IANA time zone database, such as 'Europe/Zurich'"
            ) from None

    @property
    def clock(self) -> dt.tzinfo:
        """The site's time zone; UTC where the file names none."""
        return dt.UTC if self.time_zone is None else zoneinfo.ZoneInfo(self.time_zone)


def read_hours(text: str) -> tuple[int, int]:
    """Beginning and end of "HH:MM-HH:MM" in minutes of the day; "24:00" ends it.

    Raises:
        ValueError: it is spelled differently.
    """
    found = _HOURS.fullmatch(text)
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise ValueError("must be spelled 'HH:MM-HH:MM', such as '20:00-06:00'")
    start_hour, start_minute, end_hour, end_minute = map(int, found.groups())
    return start_hour * 60 + start_minute, end_hour * 60 + end_minute


def within_hours(hours: str, minute: int) -> bool:
    """Whether a minute of the day is within "HH:MM-HH:MM", which may go over midnight."""
    start, end = read_hours(hours)
    return start <= minute < end if start < end else not end <= minute < start
