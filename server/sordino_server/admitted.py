"""The sites that take part in a run, as they declared themselves at admission."""

from collections.abc import Mapping
from dataclasses import dataclass

from sordino_protocols.bits import Bits, unpack_bits
from sordino_server.runs import ADMISSIONS, RunDirectory
from sordino_server.statement import Admissions


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the sites of a run declared at admission.

    Attributes:
        units: declared order of magnitude, by site.
        feature_count: the same at every site.
        measured: which features statistics are of, the same at every site; none without them.
        label_scale: the same at every site.
    """

    units: Mapping[str, int]
    feature_count: int
    measured: Bits
    label_scale: float

    @property
    def sites(self) -> list[str]:
        """Who takes part, in order."""
        return sorted(self.units)


def read_admitted(run: RunDirectory) -> Admitted:
    """What admission wrote.

    Raises:
        NotFoundError: the run has not got that far.
    """
    sites = run.read(ADMISSIONS, Admissions).sites
    one = next(iter(sites.values()))
    return Admitted(
        units={site: facts.order_of_magnitude for site, facts in sites.items()},
        feature_count=one.feature_count,
        measured=unpack_bits(one.measured, one.feature_count if one.measured else 0),
        label_scale=one.label_scale,
    )
