"""What training is timed against: plain SGD without privacy, and the loops that Opacus offers."""

from collections.abc import Callable

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from benchmarks.training_workloads import Workload
from sordino_client.training.arithmetic import Performance
from sordino_client.training.network import Network
from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import train_round
from sordino_protocols.plan import TrainingPlan

Step = Callable[[], None]


def our_step(workload: Workload, performance: Performance) -> Step:
    """A whole step: secret Poisson sample, clipping, secure noise, the grid."""
    network = Network(
        workload.build(False),  # noqa: FBT003
        workload.loss,
        workload.example,
        performance=performance,
    )
    plan = TrainingPlan(
        sampling_rate=workload.batch / workload.records,
        noise_multiplier=1.0,
        clipping_norm=1.0,
        rounds=1,
        local_steps=1,
        local_learning_rate=0.1,
        lanes=0,
    )
    units, noise = workload.units(), SecureNoise()
    weights = 0.05 * np.random.default_rng(0).standard_normal(network.dimension)

    def step() -> None:
        train_round(units, weights, network, plan, expected_batch_size=workload.batch, noise=noise)

    return step


def sgd_step(workload: Workload, *, reduced: bool = False) -> Step:
    """Plain SGD; with bfloat16 products where asked for."""
    model, criterion = workload.build(False), _criterion(workload)  # noqa: FBT003
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    draw = batches(workload)
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]

    def step() -> None:
        features, labels = draw()
        optimizer.zero_grad()
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16" if reduced else before
        criterion(_outputs(workload, model(features)), labels).backward()
        matmul.fp32_precision = before
        optimizer.step()

    return step


def hooks_step(workload: Workload, *, physical: int | None = None) -> Step:
    """Opacus with per-sample gradients, the batch in parts of `physical` records if that is set."""
    model = GradSampleModule(workload.build(True))  # noqa: FBT003
    criterion = _criterion(workload)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=workload.batch,
    )
    draw = batches(workload)

    def step() -> None:
        features, labels = draw()
        size = physical or max(1, len(labels))
        starts = range(0, len(labels), size)
        for start in starts:
            part = slice(start, start + size)
            optimizer.zero_grad()
            criterion(_outputs(workload, model(features[part])), labels[part]).backward()
            optimizer.signal_skip_step(do_skip=start != starts[-1])
            optimizer.step()

    return step


def ghost_step(workload: Workload) -> Step:
    """Opacus with ghost clipping: norms from one backward pass, sums from a second."""
    model = GradSampleModuleFastGradientClipping(
        workload.build(True),  # noqa: FBT003
        max_grad_norm=1.0,
        use_ghost_clipping=True,
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=workload.batch,
    )
    criterion = DPLossFastGradientClipping(model, optimizer, _criterion(workload))
    draw = batches(workload)

    def step() -> None:
        features, labels = draw()
        optimizer.zero_grad()
        criterion(_outputs(workload, model(features)), labels).backward()
        optimizer.step()

    return step


def batches(workload: Workload) -> Callable[[], tuple[Tensor, Tensor]]:
    """Poisson batches by a binomial draw and a gather."""
    units = workload.units()
    features, labels = torch.from_numpy(units.features), torch.from_numpy(units.labels)
    if workload.classes > 1:
        labels = labels.long()
    rng = np.random.default_rng(1)

    def draw() -> tuple[Tensor, Tensor]:
        coins = rng.random(workload.records) < workload.batch / workload.records
        batch = torch.from_numpy(np.flatnonzero(coins))
        # Three times as fast as features[batch].
        return features.index_select(0, batch), labels.index_select(0, batch)

    return draw


def _criterion(workload: Workload) -> nn.Module:
    return nn.BCEWithLogitsLoss() if workload.classes == 1 else nn.CrossEntropyLoss()


def _outputs(workload: Workload, outputs: Tensor) -> Tensor:
    return outputs[:, 0] if workload.classes == 1 else outputs
