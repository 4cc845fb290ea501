"""Shadow models: what a model would say of a target with it in the training data, and without.

Each is trained on about half of the targets, by a design in which each target is in exactly half of
the shadows. Everything random about a shadow comes from the plan's seed and its own index, so it
is the same whichever process trains it, and in which order. Training is by stacks, of a size that
follows from the network's alone; a finished stack is a file that is put in place whole, and a run
that was killed goes on with those that are missing.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sordino_audit.attacks.shadow_networks import Shape, Stack, draw_batches, draw_weights
from sordino_client.training.processor import single_threaded
from sordino_protocols.errors import InputError, IntegrityError
from sordino_server.storage import write_whole

Floats = NDArray[np.float64]

LARGEST_STACK = 16
_STACK_PARAMETERS = 2**18
"""Of all networks of a stack together: more would not stay in the processor's cache."""
_PLAN_FILE = "shadows.json"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """How the shadows are trained: with the data, all that their weights depend on.

    Attributes:
        shadows: how many.
        hidden: widths of the hidden layers, with rectifiers.
        classes: of the labels.
        steps: optimiser steps (Adam, cross-entropy).
        batch_size: rows a step.
        learning_rate: of Adam in the first step.
        final_learning_rate: of Adam in the end; it changes linearly. At 0 the noise of the last
            batches settles, which shows where one record has two labels.
        seed: of initial weights and batches, with each shadow's index.
    """

    shadows: int
    hidden: tuple[int, ...]
    classes: int
    steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float
    seed: int

    def learning_rate_at(self, step: int) -> float:
        """Of Adam, in a step counted from 0."""
        change = self.final_learning_rate - self.learning_rate
        return self.learning_rate + change * step / self.steps

    def shape(self, features: int) -> Shape:
        """Of each network."""
        return Shape((features, *self.hidden, self.classes))


@dataclass(frozen=True, slots=True, eq=False)
class ShadowRecords:
    """What the shadows are trained on.

    Attributes:
        features: float32 [records, width].
        labels: int64 [records].
        membership: bool [shadows, records].
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    membership: NDArray[np.bool_]

    def __post_init__(self) -> None:
        records = len(self.features)
        if self.features.ndim != 2 or self.labels.shape != (records,):  # noqa: PLR2004
            raise ValueError("expected features [records, width] and labels [records]")
        if self.membership.shape[1:] != (records,) or not self.membership.any(axis=1).all():
            raise ValueError("expected membership [shadows, records], with a member in each shadow")


def balanced_membership(
    shadows: int, targets: int, *, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Bool [shadows, targets]: by fair coins, and each pair of shadows has each target once.

    So each target is in half of the shadows, and two shadows, the first and second or any other
    pair, are enough for an attack that needs one reference with and one without. The last one of an
    odd number has coins of its own.
    """
    coins = rng.random((-(-shadows // 2), targets)) < 1 / 2
    return np.stack([coins, ~coins], axis=1).reshape(-1, targets)[:shadows]


def train_shadows(
    plan: ShadowPlan,
    records: ShadowRecords,
    *,
    directory: Path,
    workers: int = 1,
    on_stack: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Train the shadows that `directory` does not hold yet, and load them all.

    Args:
        plan: how.
        records: on what.
        directory: of one file a stack; made if there is none. It is as secret as the records.
        workers: processes to train in; the result does not depend on it.
        on_stack: told the number of each stack that was trained, once its file is in place.

    Returns:
        float32 [shadows, parameters], in the order of `records.membership`.

    Raises:
        ValueError: the records have another number of shadows than the plan, or a label that is
            none of its classes.
        InputError: the directory holds shadows of another plan, or of other records.
        IntegrityError: a file there is none of ours.
    """
    _check(plan, records)
    _claim(directory, plan, records)
    shape = plan.shape(records.features.shape[1])
    stacks = stacks_of(plan, shape)
    missing = [at for at in range(len(stacks)) if not _stack_path(directory, at).exists()]
    for at, content in _trained(plan, records, missing, workers=workers):
        write_whole(_stack_path(directory, at), content)
        if on_stack is not None:
            on_stack(at)
    return np.concatenate(
        [
            _read_stack(_stack_path(directory, at), (len(stack), shape.parameters))
            for at, stack in enumerate(stacks)
        ]
    )


def stacks_of(plan: ShadowPlan, shape: Shape) -> list[range]:
    """Which shadows are trained together."""
    size = max(1, min(LARGEST_STACK, _STACK_PARAMETERS // shape.parameters))
    return [range(start, min(start + size, plan.shadows)) for start in range(0, plan.shadows, size)]


def train_stack(plan: ShadowPlan, records: ShadowRecords, stack: range) -> NDArray[np.float32]:
    """Train some shadows together: float32 [len(stack), parameters].

    The same arguments give the same bits, on one machine with one version of torch.
    """
    shape = plan.shape(records.features.shape[1])
    rngs = [np.random.default_rng([plan.seed, index]) for index in stack]
    start = np.stack([draw_weights(shape, rng) for rng in rngs])
    batches = torch.from_numpy(
        np.stack(
            [
                draw_batches(
                    np.flatnonzero(records.membership[index]),
                    steps=plan.steps,
                    batch_size=plan.batch_size,
                    rng=rng,
                )
                for index, rng in zip(stack, rngs, strict=True)
            ],
            axis=1,
        )
    )
    features = torch.from_numpy(records.features)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(records.labels), plan.classes).float()
    networks = Stack(shape, torch.from_numpy(start))
    optimizer = torch.optim.Adam([networks.weights], lr=plan.learning_rate, fused=True)
    with single_threaded(), torch.no_grad():
        for number, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = plan.learning_rate_at(number)
            networks.set_gradient(features[batch], one_hot[batch])
            optimizer.step()
    return networks.weights.numpy()


def shadow_logits(
    plan: ShadowPlan, weights: NDArray[np.float32], features: NDArray[np.float32]
) -> Floats:
    """What each shadow says of each record: float64 [shadows, records, classes]."""
    shape = plan.shape(features.shape[1])
    chunks = [
        torch.from_numpy(features[at : at + _ROWS_AT_ONCE])[None]
        for at in range(0, len(features), _ROWS_AT_ONCE)
    ]
    with single_threaded(), torch.no_grad():
        said = [
            torch.cat(
                [
                    Stack(shape, torch.from_numpy(one[np.newaxis].copy())).outputs(chunk)[0]
                    for chunk in chunks
                ]
            )
            for one in weights
        ]
    return torch.stack(said).double().numpy()


def _check(plan: ShadowPlan, records: ShadowRecords) -> None:
    if len(records.membership) != plan.shadows:
        raise ValueError(f"membership is of {len(records.membership)} shadows, not {plan.shadows}")
    if np.any((records.labels < 0) | (records.labels >= plan.classes)):
        raise ValueError(f"a label is outside the {plan.classes} classes")


def _claim(directory: Path, plan: ShadowPlan, records: ShadowRecords) -> None:
    """Say whose shadows the directory holds, or make sure that they are these."""
    digest = hashlib.sha256()
    for part in (records.features, records.labels, records.membership):
        digest.update(json.dumps([str(part.dtype), part.shape]).encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    said = {"plan": asdict(plan), "records_sha256": digest.hexdigest(), "torch": torch.__version__}
    content = json.dumps(said, sort_keys=True).encode()
    path = directory / _PLAN_FILE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    elif path.read_bytes() != content:
        raise InputError(
            f"{directory} holds shadows of another plan or other records: name another"
        )


def _trained(
    plan: ShadowPlan, records: ShadowRecords, missing: Sequence[int], *, workers: int
) -> Iterator[tuple[int, bytes]]:
    stacks = stacks_of(plan, plan.shape(records.features.shape[1]))
    if workers == 1 or len(missing) < 2:  # noqa: PLR2004 - nothing to share out
        for at in missing:
            yield at, _stack_bytes(plan, records, stacks[at])
        return
    # A process that was forked from one with threads may hang; a new one costs seconds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
        tasks = {pool.submit(_stack_bytes, plan, records, stacks[at]): at for at in missing}
        for task in as_completed(tasks):
            yield tasks[task], task.result()


def _stack_bytes(plan: ShadowPlan, records: ShadowRecords, stack: range) -> bytes:
    return save({"weights": train_stack(plan, records, stack)})


def _stack_path(directory: Path, at: int) -> Path:
    return directory / f"stack-{at:05}.safetensors"


def _read_stack(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        weights: NDArray[np.float32] = load(path.read_bytes())["weights"]
    except (SafetensorError, KeyError):
        raise IntegrityError(f"{path.name}: this file of shadows cannot be read") from None
    if weights.shape != shape or weights.dtype != np.float32:
        raise IntegrityError(f"{path.name} holds {weights.shape}; expected {shape}")
    return weights
