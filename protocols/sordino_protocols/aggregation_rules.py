"""How a server makes one update of those of a round's sites: a choice of the job.

Every update is noisy and paid for before the server has it, so no rule costs privacy. The mean uses
every site's work and lets one site move the model by as much as one update can; the others bound
what a few bad sites can do, and pay for that with noise and with what makes sites different.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from sordino_protocols.files import STRICT

BadSites = Annotated[int, Field(ge=1, le=1_000)]


class MeanAggregation(BaseModel):
    """The sum over all sites, by their declared orders of magnitude."""

    model_config = STRICT

    kind: Literal["mean"] = "mean"

    @property
    def least_sites(self) -> int:
        """How many must answer for the rule to mean anything."""
        return 1


MEAN = MeanAggregation()


class TrimmedMeanAggregation(BaseModel):
    """Of each coordinate the mean without its largest and smallest values (Yin et al. 2018).

    Attributes:
        bad_sites: how many values are left out at each end.
    """

    model_config = STRICT

    kind: Literal["trimmed_mean"]
    bad_sites: BadSites = 1

    @property
    def least_sites(self) -> int:
        """How many must answer for a value to be left."""
        return 2 * self.bad_sites + 1


class MedianAggregation(BaseModel):
    """Of each coordinate the median (Yin et al. 2018): right while most sites are."""

    model_config = STRICT

    kind: Literal["median"]

    @property
    def least_sites(self) -> int:
        """How many must answer for the others to outvote one."""
        return 3


class KrumAggregation(BaseModel):
    """The mean of the updates that are closest to the others (Blanchard et al. 2017).

    Attributes:
        bad_sites: how many updates may be anything at all.
        keep: how many are averaged: 1 is Krum, more is Multi-Krum.
    """

    model_config = STRICT

    kind: Literal["krum"]
    bad_sites: BadSites = 1
    keep: Annotated[int, Field(ge=1, le=1_000)] = 1

    @property
    def least_sites(self) -> int:
        """How many must answer: 2 f + 3, and f + 2 more than are kept."""
        return max(2 * self.bad_sites + 3, self.keep + self.bad_sites + 2)


def _by_name(raw: object) -> object:
    return {"kind": raw} if isinstance(raw, str) else raw


AggregationRule = Annotated[
    Annotated[
        MeanAggregation | TrimmedMeanAggregation | MedianAggregation | KrumAggregation,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_by_name),
]
"""In a file a table with its `kind`, or the kind alone: `"median"`."""
