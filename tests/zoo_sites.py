"""The zoo's sites and servers: faults planted in the product's own, as `zoo` has the trainers'."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
from zoo import Forged

from sordino_audit.probes.server_probes import Aggregator, server_mean
from sordino_audit.probes.trial_site import Parts, SiteMaker, product_site
from sordino_client import mechanisms
from sordino_client.admitted import AdmittedRun
from sordino_client.mechanisms import Engine
from sordino_client.outbox import Outbox, Release
from sordino_client.site import Site
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import FloatVector, Noise, SecureNoise, Words
from sordino_client.training.steps import RoundResult, train_round
from sordino_client.training.tally import Tally
from sordino_client.training.units import Units
from sordino_client.witness import Witness
from sordino_protocols.messages import Admission, Reply, RoundPlan
from sordino_protocols.models import ModelSpec
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Event, PoissonGaussian
from sordino_protocols.wire import Opened


class ReseededSite(Site):
    """A site that seeds its noise anew in every round."""

    def _round(self, run: AdmittedRun, request: RoundPlan, asked: Opened) -> bytes:
        self._engine = Engine(Forged(7), self._engine.performance)
        return super()._round(run, request, asked)


class CountingSite(Site):
    """A site that tells how many records it has, where it should say what its admin declared."""

    def _admission(self, run: AdmittedRun) -> Admission:
        said = super()._admission(run)
        return replace(said, order_of_magnitude=len(self._dataset(run.job).training.labels))


class CheapSite(Site):
    """A site that charges for twice the noise that it adds."""

    def _release(
        self,
        run: AdmittedRun,
        step: str,
        event: Event,
        asked: Opened,
        mechanism: Callable[[], Reply],
    ) -> bytes:
        if isinstance(event, PoissonGaussian):
            event = replace(event, noise_multiplier=2 * event.noise_multiplier)
        return super()._release(run, step, event, asked, mechanism)


class ForgetfulOutbox(Outbox):
    """Remembers no release, so that a repeated request would be answered anew."""

    def get(self, run_id: str, step: str) -> Release | None:
        del run_id, step
        return None


def forgetful(parts: Parts) -> Site:
    """A site that lost its outbox."""
    outbox = ForgetfulOutbox(parts.directory / "lost")
    return product_site(replace(parts, state=replace(parts.state, outbox=outbox)))


@contextmanager
def site_divides_by_its_records() -> Iterator[None]:
    """Sites take their number of records for the declared order of magnitude."""

    def trained(
        units: Units,
        weights: FloatVector,
        model: ModelSpec,
        plan: TrainingPlan,
        *,
        expected_batch_size: float,
        noise: Noise,
        performance: Performance,
        witness: Witness | None,
        tally: Tally | None,
    ) -> RoundResult:
        del expected_batch_size
        return train_round(
            units,
            weights,
            model,
            plan,
            expected_batch_size=plan.sampling_rate * len(units),
            noise=noise,
            performance=performance,
            witness=witness,
            tally=tally,
        )

    with patch.object(mechanisms, "train_round", trained):
        yield


def one_seed_for_all(parts: Parts) -> Site:
    """Sites that were installed from one image, with one seed."""
    return product_site(replace(parts, engine=Engine(Forged(11), parts.engine.performance)))


def without_evaluation_noise(parts: Parts) -> Site:
    """A site whose counts are exact."""
    return product_site(replace(parts, engine=Engine(_NoCountNoise(), parts.engine.performance)))


class _NoCountNoise(SecureNoise):
    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        del noise_std
        return np.zeros(count, dtype=np.int64)


def mean_by_answers(
    updates: Sequence[FloatVector], units: Sequence[int], plan: TrainingPlan
) -> FloatVector:
    """A server that shortens the mean to the longest update: what it divides by was received."""
    mean = server_mean(updates, units, plan)
    return mean / max(float(np.linalg.norm(update)) for update in updates)


def mean_by_counts(
    updates: Sequence[FloatVector], units: Sequence[int], plan: TrainingPlan
) -> FloatVector:
    """A server that takes how many sites answered for how many units there are."""
    return server_mean(updates, [1] * len(units), plan)


SITES: Mapping[str, SiteMaker] = {
    "a seed used in every round of a site": partial(product_site, kind=ReseededSite),
    "one seed at all sites": one_seed_for_all,
    "a site's count returned": partial(product_site, kind=CountingSite),
    "an evaluation without noise": without_evaluation_noise,
    "rounds charged for twice the noise": partial(product_site, kind=CheapSite),
    "releases that are not kept": forgetful,
}
"""In place of the product's site."""

AGGREGATORS: Mapping[str, Aggregator] = {
    "a mean that is scaled by what was received": mean_by_answers,
    "a mean over the sites that answered": mean_by_counts,
}
"""In place of the server's mean."""
