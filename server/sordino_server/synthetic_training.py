"""Training on synthetic rows: plain, not private, and free, for the rows were paid for.

Nothing here sees a record. What must stay true: the model is a function of the job and the rows, so
that a run that was interrupted ends with the same model as one that was not.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from sordino_protocols import networks
from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector, ModelSpec, initial_weights
from sordino_protocols.plan import LossName

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]

# A last batch of a few rows would take a step as long as that of a whole one.
_SMALLEST_SHARE = 0.5


def train_on_rows(
    spec: ModelSpec,
    features: Floats,
    labels: Floats,
    *,
    loss: LossName,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: bytes,
) -> FloatVector:
    """Fit a model to rows by Adam (Kingma & Ba 2015), its rate falling to zero on half a cosine.

    Args:
        spec: the model.
        features: [rows, features], as a site's encoder scales them.
        labels: [rows], as a site's encoder gives them.
        loss: what the model is for.
        epochs: how often each row is looked at.
        learning_rate: Adam's first.
        batch_size: rows a step.
        seed: public bytes that differ from job to job; order of rows and first weights.

    Returns:
        The flat weights, as `models` lays them out.

    Raises:
        InputError: the model does not fit the features, the loss is that of a generator, there are
            no rows, or the weights that it ended with are not finite.
    """
    rows, width = features.shape
    if rows == 0:
        raise InputError("there are no synthetic rows to train on")
    module = networks.build(spec, width)
    networks.load_flat(module, initial_weights(spec, width, seed=seed))
    module = module.to(torch.float32)
    batches = _batches(rows, min(batch_size, rows), epochs=epochs, rng=_generator(seed))
    with _one_thread():
        _take_steps(module, (features, labels), batches, _loss_of(loss), rate=learning_rate)
    weights = networks.flatten(module)
    if not np.isfinite(weights).all():
        raise InputError("training on the synthetic rows diverged: lower synthetic.learning_rate")
    return weights


def _take_steps(
    module: nn.Module,
    examples: tuple[Floats, Floats],
    batches: Sequence[Places],
    loss: Loss,
    *,
    rate: float,
) -> None:
    """A step of Adam for each batch."""
    inputs, targets = map(torch.from_numpy, examples)
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(batches))
    for batch in batches:
        chosen = torch.from_numpy(batch)
        optimizer.zero_grad()
        loss(module(inputs[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums have one order then, whatever the machine; small models are faster for it, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(rows: int, batch_size: int, *, epochs: int, rng: np.random.Generator) -> list[Places]:
    """Every epoch's rows in a new order, cut into batches."""
    found: list[Places] = []
    for _ in range(epochs):
        order = rng.permutation(rows)
        cut = [order[begin : begin + batch_size] for begin in range(0, rows, batch_size)]
        if len(cut) > 1 and len(cut[-1]) < _SMALLEST_SHARE * batch_size:
            cut.pop()
        found += cut
    return found


def _loss_of(name: LossName) -> Loss:
    """The mean loss of a batch; the same losses of a row as in training at the sites."""
    match name:
        case "binary":
            return lambda outputs, labels: functional.binary_cross_entropy_with_logits(
                outputs.reshape(len(labels)), labels
            )
        case "cross_entropy":
            return lambda outputs, labels: functional.cross_entropy(outputs, labels.long())
        case "squared":
            return lambda outputs, labels: functional.mse_loss(outputs.reshape(len(labels)), labels)
        case "likelihood":
            raise InputError("loss 'likelihood' is a generator's: it learns from records, not rows")
        case _:
            assert_never(name)


def _generator(seed: bytes) -> np.random.Generator:
    digest = hashlib.sha256(b"sordino/synthetic-training/1\n" + seed).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
