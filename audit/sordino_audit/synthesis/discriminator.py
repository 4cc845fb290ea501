"""A discriminator against rows of a neural generator (Hayes et al. 2019, LOGAN, black box).

The attacker has synthetic rows, and records of the same population that were not there. A network
learns to tell the two apart; what a generator knows by heart looks more like its rows than like the
population, so the discriminator's output is a score of membership.
"""

import math

import numpy as np
import numpy.typing as npt
import torch

from sordino_audit.attacks.results import auc
from sordino_client.training.processor import single_threaded
from sordino_protocols.synthesis.shapes import DomainShape, SetShape

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_HIDDEN = 64
_STEPS = 300
_BATCH = 256
_RATE = 3e-3
_WEIGHT_DECAY = 1e-3


def discriminator_auc(
    rows: Cells,
    members: Cells,
    strangers: Cells,
    population: Cells,
    *,
    shape: DomainShape,
    seed: int,
) -> float:
    """How well the discriminator tells members from strangers.

    Args:
        rows: synthetic, [rows, positions].
        members: records that were there.
        strangers: records that were not, and that the attacker has not, either.
        population: records that were not there, which the attacker has.
        shape: of all of them.
        seed: of the network and its batches.

    Returns:
        Probability that a member scores above a stranger; .5 is nothing.
    """
    # So small a network is slower on several threads, and many times so where they are contended.
    with single_threaded():
        network = _trained(rows, population, shape, seed)
        return auc(_scores(network, members, shape), _scores(network, strangers, shape))


def one_hot(cells: Cells, shape: DomainShape) -> npt.NDArray[np.float32]:
    """Each single column as zeros and a one, sets as they are, [records, fine cells]."""
    blocks = []
    for start, column in zip(shape.starts(), shape.columns, strict=True):
        if isinstance(column, SetShape):
            blocks.append(cells[:, start : start + column.items].astype(np.float32))
        else:
            blocks.append(np.eye(column.fine, dtype=np.float32)[cells[:, start]])
    return np.concatenate(blocks, axis=1)


def _trained(rows: Cells, population: Cells, shape: DomainShape, seed: int) -> torch.nn.Sequential:
    """Binary cross-entropy on as many rows as records of the population in each batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = sum(one_hot(rows[:1], shape).shape[1:])
        network = torch.nn.Sequential(
            torch.nn.Linear(width, _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, 1)
        )
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    labels = torch.cat([torch.ones(_BATCH), torch.zeros(_BATCH)])
    for step in range(_STEPS):
        batch = np.concatenate(
            [each[rng.integers(0, len(each), _BATCH)] for each in (rows, population)]
        )
        logits = network(torch.from_numpy(one_hot(batch, shape)))[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 + math.cos(math.pi * step / _STEPS)) / 2
        optimizer.step()
    return network


def _scores(network: torch.nn.Sequential, records: Cells, shape: DomainShape) -> Floats:
    with torch.inference_mode():
        found = network(torch.from_numpy(one_hot(records, shape)))[:, 0]
    return np.asarray(found.numpy(), dtype=np.float64)
