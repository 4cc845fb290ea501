"""How much the membership attacks find where there is much to find, and what it costs.

`python -m benchmarks.audit_attacks [--json] [--quick] [--data DIR]`. Two parts.

*Location-30* (Shokri et al. 2017), read from `DIR/location30.npz`; without that file the part is
skipped, and that is said. Networks 446-128-30 learn from half of all 5,010 records each until they
know them by heart; 64 are shadows, the others are attacked. Then the same again, where somebody
else trains on one mislabelled copy of each of 250 records.

*Digits* (scikit-learn's): the engine trains 500 networks at epsilon 10 with full batches, half of
them with one canary, and an adversary who chose the start may ask the last model one question.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting import Context, Figure, report
from sordino_audit.attacks import lira, rmia, scores, shokri
from sordino_audit.attacks.black_box import (
    BlackBox,
    audit_black_box,
    fitted_start,
    most_surprising,
)
from sordino_audit.attacks.poisoning import mislabelled_replicas
from sordino_audit.attacks.results import auc, tpr_at_fpr
from sordino_audit.attacks.shadows import (
    ShadowPlan,
    ShadowRecords,
    balanced_membership,
    shadow_logits,
    train_shadows,
)
from sordino_audit.bounds import gaussian
from sordino_client.training.noise import SecureNoise
from sordino_protocols.models import MlpSpec, initial_weights
from sordino_protocols.plan import TrainingPlan

LIRA_AUC_BAR, LIRA_TPR_BAR, LIRA_SECONDS_BAR = 0.955, 0.28, 90.0
RMIA_TPR_BAR, POISONED_TPR_BAR = 0.07, 0.95
EPSILON_BAR, EPSILON_SECONDS_BAR = 5.0, 30.0
LOW_RATE = 0.001
EPSILON, DELTA, CONFIDENCE = 10.0, 1e-5, 0.95
GAMMA = 2.0

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Rows = NDArray[np.float32]
Membership = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Training:
    """Of the networks.

    Attributes:
        steps: of each.
        batch_size: records a step.
        learning_rate: of Adam at first.
        final_learning_rate: of Adam in the end.
    """

    steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained.

    Attributes:
        pool: records of which half are members of each network; a smaller one is easier.
        attacked: networks that attacks are judged on; with `shadows` more.
        poisoned: records that are copied.
        poisoned_attacked: as `attacked`, of the networks with poisons.
        training: of networks without poisons.
        poisoned_training: with poisons; one record under two labels settles with smaller steps.
        black_box_models: of the second part.
    """

    pool: int = 5010
    shadows: int = 64
    attacked: int = 8
    poisoned: int = 250
    poisoned_shadows: int = 16
    poisoned_attacked: int = 16
    training: Training = Training(1400, 64, learning_rate=1e-2, final_learning_rate=1e-2)
    poisoned_training: Training = Training(400, 256, learning_rate=1e-2, final_learning_rate=0.0)
    black_box_models: int = 500


WHOLE = Size()
QUICK = Size(
    pool=600,
    shadows=16,
    attacked=2,
    poisoned=100,
    poisoned_shadows=8,
    poisoned_attacked=4,
    training=Training(60, 128, learning_rate=1e-2, final_learning_rate=1e-2),
    poisoned_training=Training(60, 128, learning_rate=1e-2, final_learning_rate=0.0),
    black_box_models=40,
)


@dataclass(frozen=True, slots=True, eq=False)
class Location:
    """Records of the data set, and perhaps copies of some."""

    features: Rows
    labels: Labels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit_attacks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="less of everything, no bars")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = parser.parse_args(arguments)
    made = figures(quick=chosen.quick, data=chosen.data)
    return report(made, context(quick=chosen.quick, data=chosen.data), as_json=chosen.json)


def figures(*, quick: bool, data: Path) -> list[Figure]:
    """Both parts; with `quick` small ones, whose figures have no bars."""
    size = QUICK if quick else WHOLE
    made = [*location_figures(data, size), *black_box_figures(size)]
    return [replace(each, bar=None) for each in made] if quick else made


def context(*, quick: bool, data: Path) -> Context:
    """What the figures were measured on."""
    found = _location_file(data).exists()
    return {
        "Location-30": str(_location_file(data)) if found else f"skipped: not in {data}",
        "sizes": repr(QUICK if quick else WHOLE),
        "black box": "assumes the Gaussian family; threshold fixed by a rehearsal without noise",
    }


def location_figures(data: Path, size: Size) -> list[Figure]:
    """Attacks on networks that know their records by heart; none without the data."""
    if not _location_file(data).exists():
        return []
    pool = _read_location(_location_file(data), records=size.pool)
    started = time.process_time()
    membership = balanced_membership(
        size.attacked + size.shadows, size.pool, rng=np.random.default_rng(1)
    )
    plan = _plan(len(membership), size.training)
    weights = _trained(plan, pool, membership)
    logits = shadow_logits(plan, weights, pool.features)
    attack = _Attack(membership, logits, pool.labels, size.attacked)
    by_lira = attack.lira_online()
    seconds = time.process_time() - started
    with_two = attack.rmia_with_two()
    poisoned = _poisoned_tpr(pool, size)
    few = slice(0, size.poisoned)
    return [
        Figure(f"LiRA, {size.shadows} shadows: AUC", attack.auc(by_lira), LIRA_AUC_BAR),
        Figure("LiRA: TPR at .1 % FPR", attack.tpr(by_lira), LIRA_TPR_BAR),
        Figure("LiRA: CPU s, shadows included", seconds, LIRA_SECONDS_BAR, is_upper_bar=True),
        Figure("RMIA, 2 references: TPR at .1 % FPR", attack.tpr(with_two), RMIA_TPR_BAR),
        Figure("RMIA, 2 references: AUC", attack.auc(with_two)),
        Figure("Truth Serum, one poison a target: TPR at .1 % FPR", poisoned, POISONED_TPR_BAR),
        Figure(
            "the same targets without poison: TPR at .1 % FPR",
            _pooled_tpr(by_lira[:, few], membership[: size.attacked, few]),
        ),
        *attack.weaker(),
    ]


def black_box_figures(size: Size) -> list[Figure]:
    """The bound from one question to each last model."""
    target = _digits()
    started = time.process_time()
    result = audit_black_box(
        target,
        models=size.black_box_models,
        delta=DELTA,
        confidence=CONFIDENCE,
        noise=SecureNoise(),
    )
    seconds = time.process_time() - started
    name = f"black box, digits, epsilon {EPSILON:.0f}, {size.black_box_models} models"
    return [
        Figure(f"{name}: epsilon >= at 95 %", result.epsilon_low, EPSILON_BAR),
        Figure("black box: CPU s", seconds, EPSILON_SECONDS_BAR, is_upper_bar=True),
        Figure("black box: AUC", result.auc),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Attack:
    """Networks of which the first `attacked` are attacked, and the others are shadows."""

    membership: Membership
    logits: Floats
    labels: Labels
    attacked: int

    def lira_online(self) -> Floats:
        confidences = scores.logit_confidence(self.logits, self.labels)
        references = lira.References(confidences[self.attacked :], self.membership[self.attacked :])
        return lira.online(confidences[: self.attacked], references)

    def rmia_with_two(self) -> Floats:
        """Each network attacked with two references of its own, one with and one without.

        The targets are each other's population: who of them was a member, the attack need not know.
        """
        said = scores.loss_score(self.logits, self.labels)
        found = []
        for network in range(self.attacked):
            first = self.attacked + 2 * network
            two = slice(first, first + 2)
            population = rmia.Population(said[network], said[two])
            found.append(
                rmia.online(said[network], said[two], self.membership[two], population, gamma=GAMMA)
            )
        return np.stack(found)

    def weaker(self) -> list[Figure]:
        """What attacks without a model of each record find, for comparison."""
        logits = self.logits[: self.attacked]
        learnt = shokri.train_attack(
            self.logits[self.attacked :], self.labels, self.membership[self.attacked :]
        )
        by_name = {
            "shadow attack (Shokri)": shokri.shadow_score(logits, self.labels, learnt),
            "modified entropy": scores.modified_entropy_score(logits, self.labels),
            "loss": scores.loss_score(logits, self.labels),
        }
        return [Figure(f"{name}: AUC", self.auc(found)) for name, found in by_name.items()]

    def auc(self, found: Floats) -> float:
        return float(np.mean([auc(*sides) for sides in self._sides(found)]))

    def tpr(self, found: Floats) -> float:
        """The mean over the networks: each has a step ROC of its own."""
        return float(np.mean([tpr_at_fpr(*sides, LOW_RATE) for sides in self._sides(found)]))

    def _sides(self, found: Floats) -> list[tuple[Floats, Floats]]:
        return [
            (row[of], row[~of])
            for row, of in zip(found, self.membership[: self.attacked], strict=True)
        ]


def _poisoned_tpr(pool: Location, size: Size) -> float:
    """LiRA where each of the first records has one copy with a wrong label, somebody else's."""
    rng = np.random.default_rng(2)
    networks = size.poisoned_attacked + size.poisoned_shadows
    membership = balanced_membership(networks, size.pool, rng=rng)
    labels = pool.labels[: size.poisoned]
    poisons = mislabelled_replicas(labels, classes=int(pool.labels.max()) + 1, replicas=1, rng=rng)
    everything = Location(
        np.concatenate([pool.features, pool.features[poisons.rows]]),
        np.concatenate([pool.labels, poisons.labels]),
    )
    always = np.ones((networks, len(poisons.labels)), dtype=np.bool_)
    plan = _plan(networks, size.poisoned_training)
    weights = _trained(plan, everything, np.concatenate([membership, always], axis=1))
    logits = shadow_logits(plan, weights, pool.features[: size.poisoned])
    targets = membership[:, : size.poisoned]
    found = _Attack(targets, logits, labels, size.poisoned_attacked).lira_online()
    return _pooled_tpr(found, targets[: size.poisoned_attacked])


def _pooled_tpr(found: Floats, membership: Membership) -> float:
    """Of all networks together: a few hundred targets alone have no rate of .1 %."""
    return tpr_at_fpr(found[membership], found[~membership], LOW_RATE)


def _plan(networks: int, training: Training) -> ShadowPlan:
    return ShadowPlan(
        shadows=networks,
        hidden=(128,),
        classes=30,
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        final_learning_rate=training.final_learning_rate,
        seed=7,
    )


def _trained(plan: ShadowPlan, records: Location, membership: Membership) -> Rows:
    with tempfile.TemporaryDirectory() as scratch:
        return train_shadows(
            plan,
            ShadowRecords(records.features, records.labels, membership),
            directory=Path(scratch),
        )


def _location_file(data: Path) -> Path:
    return data / "location30.npz"


def _read_location(path: Path, *, records: int) -> Location:
    stored = np.load(path)
    features = np.unpackbits(stored["x_packed"], axis=1, count=int(stored["n_features"]))
    chosen = np.random.default_rng(5).permutation(len(features))[:records]
    return Location(features[chosen].astype(np.float32), stored["y"].astype(np.int64)[chosen])


def _digits() -> BlackBox:
    """Half of the digits is public: the start fits it. The other half is trained on."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  # a dependency of development

    pixels, classes = load_digits(return_X_y=True)
    features, labels = (pixels / 16).astype(np.float32), classes.astype(np.float32)
    order = np.random.default_rng(3).permutation(len(labels))
    public, private = order[: len(order) // 2], order[len(order) // 2 :]
    model = MlpSpec(kind="mlp", hidden=(32,), activation="tanh", embeddings=(), outputs=10)
    start = fitted_start(
        model,
        features[public],
        labels[public],
        steps=200,
        learning_rate=0.02,
        start=initial_weights(model, features.shape[1], seed=bytes(32)),
    )
    row, label = most_surprising(model, start, features[public])
    steps = 6
    return BlackBox(
        model=model,
        plan=TrainingPlan(
            sampling_rate=1.0,
            noise_multiplier=math.sqrt(steps) / gaussian.mu_from_epsilon(EPSILON, DELTA),
            clipping_norm=1.0,
            rounds=1,
            local_steps=steps,
            local_learning_rate=2.0,
            lanes=0,
            update="delta",
            loss="cross_entropy",
        ),
        start=start,
        features=features[private],
        labels=labels[private],
        canary=features[public][row : row + 1],
        canary_label=label,
        expected_batch_size=float(len(private)),
    )


if __name__ == "__main__":
    sys.exit(main())
