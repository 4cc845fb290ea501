"""Synthetic tables by the code of sites and server, without the network between them.

A plan is made as a job makes it; what a site does is `tabulation`'s, what the server does is
`synthesizing`'s. Time is CPU time of this process, which the benchmark holds to one thread.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sordino_client.synthesis.generators.dispatch import fit_generator
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.synthesis.masks import masked
from sordino_client.synthesis.measure import exact_counts, measure, with_noise
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import calibrate
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.privacy import Guarantee
from sordino_protocols.synthesis.mixture import Mixture
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.specs import GeneratorSpec, MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable
from sordino_server.synthesizing import site_tables

Cells = npt.NDArray[np.int32]

DELTA = 1e-5
_RUN_ID, _JOB_DIGEST = "benchmark", "00" * 32
_NO_SCHEMA = "00" * 32


@dataclass(slots=True)
class Stopwatch:
    """CPU seconds by the name of what took them."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what the block takes."""
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What a run made.

    Attributes:
        rows: synthetic cells: as many as there seem to be units, or as `synthesize` was asked for.
        plan: of the run.
        mixture: that the rows are of; None in mode "table".
        tables: what the mixture was fitted to.
        seconds: CPU seconds of measuring, fitting and sampling, all sites together.
    """

    rows: Cells
    plan: SynthesisPlan
    mixture: Mixture | None
    tables: Sequence[SiteTable]
    seconds: dict[str, float]


def plan_of(
    shape: DomainShape,
    *,
    epsilon: float,
    generator: GeneratorSpec | None = None,
    sites: int = 0,
    silent: int = 0,
) -> SynthesisPlan:
    """The plan of a release of this epsilon, by PLD; of a sum, if there is a number of sites.

    A site of a sum pays for its own noise alone, which costs more; here it is the sum that has the
    wanted epsilon.
    """
    plan = SynthesisPlan(
        generator=MixtureSpec() if generator is None else generator,
        mode="sum" if sites else "local",
        shape=shape,
        schema_sha256=_NO_SCHEMA,
        noise_multiplier=1.0,
        sites=tuple(f"site-{index:02}" for index in range(sites)),
        silent=silent,
    )
    noise = calibrate(
        lambda wanted: replace(plan, noise_multiplier=wanted).whole_event, Guarantee(epsilon, DELTA)
    )
    return replace(plan, noise_multiplier=noise)


def epsilons(plan: SynthesisPlan) -> tuple[float, float]:
    """Of the release, and of what a site adds without the others' noise; by PLD."""
    return epsilon_by_pld(plan.whole_event, DELTA), epsilon_by_pld(plan.event, DELTA)


def local(parts: Sequence[Cells], plan: SynthesisPlan, *, seed: int) -> Synthesis:
    """Each site's own noisy marginals, one joint fit; of one part, a central table."""
    clock, noise, released = Stopwatch(), SecureNoise(), dict[str, Cells]()
    for index, part in enumerate(parts):
        with clock.timing("measure"):
            released[f"site-{index:02}"] = measure(
                part, plan.released_marginals, shape=plan.shape, noise=noise
            )
    tables = site_tables(plan, released, sites=len(parts))
    return _fitted(tables, plan, clock, seed)


def summed(parts: Sequence[Cells], plan: SynthesisPlan, *, seed: int) -> Synthesis:
    """Masked marginals with a share of the noise each, of which only the sum is ever seen."""
    clock, noise = Stopwatch(), SecureNoise()
    keys = {site: X25519PrivateKey.generate() for site in plan.sites}
    total = np.zeros(sum(each.cells for each in plan.released_marginals), dtype=np.uint32)
    for site, part in zip(plan.sites, parts, strict=True):
        peers = {other: key.public_key() for other, key in keys.items() if other != site}
        own = MaskKeys(site, keys[site], peers)
        with clock.timing("measure"):
            total += _masked_part(part, plan, own, noise).view(np.uint32)
    tables = site_tables(plan, {"sum": total.view(np.int32)}, sites=len(parts))
    return _fitted(tables, plan, clock, seed)


def pooled(parts: Sequence[Cells], plan: SynthesisPlan, *, seed: int) -> Synthesis:
    """Each site fits and samples on its own; the rows are pooled."""
    clock, noise, rng = Stopwatch(), SecureNoise(), np.random.default_rng(seed)
    performance, tables = Performance(), list[Cells]()
    for part in parts:
        with clock.timing("fit"):
            fitted = fit_generator(plan, part, noise=noise, performance=performance, rng=rng)
        with clock.timing("sample"):
            tables.append(fitted.sampler.sample(round(fitted.units), rng=rng))
    return Synthesis(np.concatenate(tables), plan, None, (), clock.seconds)


def sampling_seconds(synthesis: Synthesis, *, rows: int) -> float:
    """CPU seconds to sample so many rows from a run's mixture.

    Raises:
        TypeError: it has none.
    """
    if synthesis.mixture is None:
        raise TypeError("rows are sampled from a mixture")
    clock = Stopwatch()
    with clock.timing("sample"):
        synthesis.mixture.sample(rows, rng=np.random.default_rng(0))
    return clock.seconds["sample"]


def _masked_part(
    cells: Cells, plan: SynthesisPlan, keys: MaskKeys, noise: SecureNoise
) -> npt.NDArray[np.int32]:
    marginals = plan.released_marginals
    noisy = with_noise(exact_counts(cells, marginals, shape=plan.shape), marginals, noise=noise)
    return masked(noisy, keys, plan.sites, run_id=_RUN_ID, job_digest=_JOB_DIGEST)


def _fitted(tables: list[SiteTable], plan: SynthesisPlan, clock: Stopwatch, seed: int) -> Synthesis:
    rng, spec = np.random.default_rng(seed), plan.generator
    if not isinstance(spec, MixtureSpec):
        raise TypeError("only a mixture is fitted to marginals")
    with clock.timing("fit"):
        mixture = fit_mixture(tables, components=spec.components, rng=rng)
    with clock.timing("sample"):
        rows = mixture.sample(round(float(mixture.units.sum())), rng=rng)
    return Synthesis(rows, plan, mixture, tables, clock.seconds)
