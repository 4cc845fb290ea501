"""Other libraries that train with differential privacy, where they are installed."""

import importlib
import itertools
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from benchmarks.training_contenders import Step, batches
from benchmarks.training_workloads import Workload

JAX, FASTDP, OPAKE = "JAX book-keeping", "fastDP", "opake"


def peer_steps(workload: Workload) -> dict[str, Step]:
    """A step of each library that is installed and can do this workload, by name."""
    steps: dict[str, Step] = {}
    widths = _widths(workload)
    if widths and find_spec("jax"):
        steps[JAX] = _jax_step(workload, widths)
    if find_spec("fastDP"):
        steps[FASTDP] = _fastdp_step(workload)
    return steps


def missing_peers() -> list[str]:
    """What was asked for and cannot be timed, with the reason."""
    missing = [
        f"{name}: not installed" for name, module in _MODULES.items() if not find_spec(module)
    ]
    if find_spec(_MODULES[OPAKE]):
        missing.append(f"{OPAKE}: installed, but this benchmark has no loop for it")
    return missing


_MODULES = {JAX: "jax", FASTDP: "fastDP", OPAKE: "opake"}


def _widths(workload: Workload) -> tuple[int, ...]:
    """Of a stack of dense layers with tanh between them; empty for any other model."""
    model = workload.build(False)  # noqa: FBT003
    if not isinstance(model, nn.Sequential) or not all(
        isinstance(layer, nn.Linear | nn.Tanh) for layer in model
    ):
        return ()
    linears = [layer for layer in model if isinstance(layer, nn.Linear)]
    return (linears[0].in_features, *(layer.out_features for layer in linears))


def _jax_step(workload: Workload, widths: Sequence[int]) -> Step:
    """Book-keeping as one compiled function of a fixed physical batch, padded and masked."""
    jax = importlib.import_module("jax")
    jnp = importlib.import_module("jax.numpy")
    rng = np.random.default_rng(0)
    weights = [
        (jnp.asarray(0.05 * rng.standard_normal(pair), jnp.float32), jnp.zeros(pair[1]))
        for pair in itertools.pairwise(widths)
    ]
    rows = int(workload.batch + 5 * workload.batch**0.5)
    draw = batches(workload)

    def noisy(weights, features, labels, mask, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        kept, hidden = [], features
        for index, (matrix, shift) in enumerate(weights):
            kept.append(hidden)
            hidden = hidden @ matrix + shift
            if index + 1 < len(weights):
                hidden = jnp.tanh(hidden)
        if workload.classes == 1:
            gradient = (jax.nn.sigmoid(hidden[:, 0]) - labels)[:, None]
        else:
            gradient = jax.nn.softmax(hidden) - jax.nn.one_hot(labels, workload.classes)
        gradients = [gradient]
        for index in range(len(weights) - 1, 0, -1):
            gradient = (gradient @ weights[index][0].T) * (1 - kept[index] ** 2)
            gradients.insert(0, gradient)
        squares = sum(
            ((a**2).sum(1) + 1) * (g**2).sum(1) for a, g in zip(kept, gradients, strict=True)
        )
        factors = mask * jnp.minimum(1.0, 1.0 / jnp.sqrt(squares + 1e-12))
        updated = []
        for (matrix, shift), inputs, outward in zip(weights, kept, gradients, strict=True):
            scaled = outward * factors[:, None]
            key, first, second = jax.random.split(key, 3)
            of_matrix = inputs.T @ scaled + jax.random.normal(first, matrix.shape)
            of_shift = scaled.sum(0) + jax.random.normal(second, shift.shape)
            step = 0.1 / workload.batch
            updated.append((matrix - step * of_matrix, shift - step * of_shift))
        return updated, key

    compiled = jax.jit(noisy)
    state = {"weights": weights, "key": jax.random.PRNGKey(0)}

    def step() -> None:
        features, labels = (part.numpy()[:rows] for part in draw())
        padding = rows - len(labels)
        mask = np.arange(rows) < len(labels)
        state["weights"], state["key"] = compiled(
            state["weights"],
            np.pad(features, ((0, padding), (0, 0))),
            np.pad(labels, (0, padding)),
            mask,
            state["key"],
        )
        jax.block_until_ready(state["weights"])

    return step


def _fastdp_step(workload: Workload) -> Step:
    """Book-keeping by hooks on torch modules."""
    fastdp = importlib.import_module("fastDP")
    model = workload.build(True)  # noqa: FBT003
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = fastdp.PrivacyEngine(
        model,
        batch_size=workload.batch,
        sample_size=workload.records,
        epochs=1,
        noise_multiplier=1.0,
        clipping_mode="MixOpt",
        clipping_fn="Abadi",
    )
    engine.attach(optimizer)
    draw = batches(workload)

    def step() -> None:
        features, labels = draw()
        outputs = model(features)
        loss = (
            nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels)
            if workload.classes == 1
            else nn.functional.cross_entropy(outputs, labels)
        )
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return step
