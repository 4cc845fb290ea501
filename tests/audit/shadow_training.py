"""A small set of shadows, and a process that is killed while it trains them: `python ... DIR`."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from sordino_audit.attacks.shadows import (
    ShadowPlan,
    ShadowRecords,
    balanced_membership,
    train_shadows,
)

PLAN = ShadowPlan(
    shadows=40,
    hidden=(16,),
    classes=3,
    steps=150,
    batch_size=16,
    learning_rate=0.01,
    final_learning_rate=0.0,
    seed=3,
)
RECORDS, WIDTH = 60, 12
KILLED_AFTER = 1


def made_up() -> ShadowRecords:
    """Labels that say nothing about the features: whoever fits them knows them by heart."""
    rng = np.random.default_rng(0)
    return ShadowRecords(
        rng.normal(size=(RECORDS, WIDTH)).astype(np.float32),
        rng.integers(0, PLAN.classes, RECORDS),
        balanced_membership(PLAN.shadows, RECORDS, rng=rng),
    )


def _kill(stack: int) -> None:
    if stack == KILLED_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train_shadows(PLAN, made_up(), directory=Path(sys.argv[1]), on_stack=_kill)
