"""The runs that site probes look at: one at each of two sites, which differ in records alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from structlog.testing import capture_logs

from sordino_audit.probes.trial_site import (
    RUN,
    SiteMaker,
    TrialSite,
    made_up_dataset,
    make_people,
    product_site,
)
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.mechanisms import Engine
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_protocols.job import Job
from sordino_protocols.messages import Message

# The second site has other records, and not as many.
_RECORDS = ((60, 3), (47, 70))


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one site.

    Attributes:
        answers: by what was asked for, as they were sent.
        replies: the same, read.
        repeated: what the same requests got when they came a second time.
        held_out: [lanes], those without a canary.
        dataset: the made-up records.
    """

    answers: Mapping[str, bytes]
    replies: Mapping[str, Message]
    repeated: Mapping[str, bytes]
    held_out: NDArray[np.bool_]
    dataset: SiteDataset


@contextmanager
def run_trials(
    performance: Performance, make: SiteMaker = product_site, *, job: Job | None = None
) -> Iterator[tuple[Trial, Trial]]:
    """Run both sites below a temporary directory, which is gone afterwards.

    Args:
        performance: of the site that is probed.
        make: makes each site.
        job: what they run; None: the training of every trial.
    """
    engine, people = Engine(SecureNoise(), performance), make_people()
    # A trial is no event of the site: nothing of it may look like one in the site's log.
    with capture_logs(), TemporaryDirectory(prefix="sordino-trial-") as scratch:
        first, second = (
            _run(
                TrialSite(
                    Path(scratch) / str(seed),
                    people,
                    engine,
                    dataset=made_up_dataset(records, seed=seed),
                    make=make,
                    job=job,
                )
            )
            for records, seed in _RECORDS
        )
        yield first, second


def _run(site: TrialSite) -> Trial:
    try:
        envelopes = {name: site.envelope(each) for name, each in site.requests().items()}
        answers = {name: site.answer(envelope) for name, envelope in envelopes.items()}
        repeated = {name: site.answer(envelope) for name, envelope in envelopes.items()}
        run = site.runs.get(RUN)
    finally:
        site.close()
    replies = {name: site.read(answer) for name, answer in answers.items()}
    held_out = np.zeros(0, dtype=np.bool_) if run is None else ~run.coins
    return Trial(answers, replies, repeated, held_out, site.dataset)
