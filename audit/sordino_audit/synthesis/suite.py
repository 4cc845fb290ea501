"""All probes of the code that releases marginals, on cases in which every kind of marginal occurs.

`probe_release` takes the product's release or any other. Random probes run on the first case alone,
since they say the same in all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from sordino_audit.findings import ProbeOutcome
from sordino_audit.probes.found import Found
from sordino_audit.probes.suite import observe
from sordino_audit.synthesis import release_probes
from sordino_audit.synthesis.subject import Release, ReleaseCase, default_cases, measured

Probe = Callable[[Release, ReleaseCase], Found]

EXACT: Mapping[str, Probe] = {
    "length of marginals": release_probes.length,
    "sensitivity of marginals": release_probes.sensitivity,
    "noise on every count": release_probes.noise_on_every_count,
}
"""Probes that replay all randomness and never raise a false alarm."""

RANDOM: Mapping[str, Probe] = {
    "scale of secret noise in counts": release_probes.noise_scale,
    "secret noise in counts of units": release_probes.noise_with_units,
    "fresh noise in counts": release_probes.freshness,
}
"""Probes of secret noise; each fails on correct code once in a million at most."""


def probe_release(
    release: Release = measured, *, cases: Sequence[ReleaseCase] | None = None
) -> list[ProbeOutcome]:
    """Probe the code that releases marginals.

    Args:
        release: what is probed; the product's by default.
        cases: on what; by default those of `subject.default_cases`.
    """
    return list(probe_one_by_one(release, default_cases() if cases is None else cases))


def probe_one_by_one(release: Release, cases: Sequence[ReleaseCase]) -> Iterator[ProbeOutcome]:
    """The outcomes of `probe_release`, each as soon as it is there.

    Where a release does not even have its planned length, nothing else of that case is read.
    """
    for number, case in enumerate(cases):
        probes = EXACT if number else {**EXACT, **RANDOM}
        for name, probe in probes.items():
            outcomes = observe(f"{name}: {case.name}", partial(probe, release, case))
            yield from outcomes
            if probe is release_probes.length and not outcomes[0].is_passed:
                break
