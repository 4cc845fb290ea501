"""What one run's lanes add to the e-processes of their sites."""

import numpy as np

from sordino_audit.bounds.e_process import Wager
from sordino_audit.e_values import NoiseEvidence, PairEvidence, configuration_of, pairs_of
from sordino_audit.readings import LaneReadings, held_out_noise
from sordino_audit.view import score
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

MEMBERSHIP = "membership"
NOISE = "noise scale"


def lane_evidence(
    observed: LaneReadings, plan: TrainingPlan, claim: Guarantee, *, wagers: tuple[Wager, ...]
) -> tuple[PairEvidence, NoiseEvidence]:
    """Pairs of lanes against the claimed curve, and held-out lanes against the claimed noise."""
    configuration = configuration_of(plan, claim, view="rounds")
    inserted, held_out = pairs_of(score(observed.combined, plan), observed.inserted)
    (noise,) = held_out_noise([observed], plan)
    return (
        PairEvidence(observed.site, MEMBERSHIP, configuration, wagers, inserted, held_out),
        NoiseEvidence(
            observed.site,
            NOISE,
            configuration,
            squares=float(np.sum(noise**2)),
            readings=noise.size,
        ),
    )
