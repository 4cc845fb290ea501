"""Attacks on the generator: draws that repeat, bits that are stuck, keystreams that are reused.

A generator that is seeded once gives the same noise after a fork, in two threads that share it
badly, or in two processes of one image. Here the same source is drawn from in all of these, and no
two numbers of 64 random bits may be equal: by chance, among a million, that happens once in 10^7.
"""

import os
import select
import signal
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from sordino_client.training.noise import Noise, SecureNoise

Floats = NDArray[np.float64]

_THREADS = 4
_CHILD_SECONDS = 60.0
_BITS = 32


def draws_everywhere(noise: Noise, *, count: int) -> list[Floats]:
    """Draws in this thread, after it, in other threads, in a forked child and after the fork.

    Args:
        noise: one source, drawn from in all of these places.
        count: numbers in each place, at most 4,096: what a pipe holds.
    """
    here = [noise.standard_normal(count) for _ in range(2)]
    with ThreadPoolExecutor(_THREADS) as threads:
        drawn = threads.map(lambda _: noise.standard_normal(count), range(2 * _THREADS))
        here += list(drawn)
    return [*here, _after_a_fork(noise, count), noise.standard_normal(count)]


def shared_numbers(draws: list[Floats]) -> int:
    """How many numbers occur more than once."""
    together = np.concatenate(draws)
    return len(together) - len(np.unique(together))


def bit_p_value(noise: Noise, *, count: int) -> float:
    """P-value that no bit is stuck or leans to one side, and none follows another (exact).

    The numbers are turned back to uniform ones; their 32 leading bits are each a fair coin, the
    same as its neighbour half of the time, and the same as in the number before half of the time.
    """
    uniform = ndtr(noise.standard_normal(count))
    words = (uniform * 2.0**_BITS).astype(np.uint64)
    bits = (words[:, None] >> np.arange(_BITS, dtype=np.uint64)) & np.uint64(1)
    coins = (bits, bits[:, 1:] ^ bits[:, :-1], bits[1:] ^ bits[:-1])
    p_values = [
        stats.binomtest(int(column.sum()), len(column), 0.5).pvalue
        for table in coins
        for column in table.T
    ]
    return float(min(1.0, len(p_values) * min(p_values)))


def reuse_p_value(make: Callable[[], Noise] = SecureNoise, *, count: int) -> float:
    """P-value that two sources are independent: their signs agree half of the time (exact).

    Two messages under one keystream would agree everywhere, or wherever their streams overlap.

    Args:
        make: makes a source, as another site or the next round does.
        count: numbers of each.
    """
    first, second = (make().standard_normal(count) > 0 for _ in range(2))
    agree = int(np.sum(first == second))
    return float(stats.binomtest(agree, count, 0.5).pvalue)


def _after_a_fork(noise: Noise, count: int) -> Floats:
    """What a child draws that was forked from this process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer versions of Python warn of threads: none of ours is left, and the child only draws.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # Nothing of the parent's, no handler and no buffer, may run in the child.
        try:
            # A fork has no copy of the threads that torch would wait for.
            torch.set_num_threads(1)
            os.write(writing, noise.standard_normal(count).tobytes())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], _CHILD_SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        drawn = np.frombuffer(pipe.read())
    os.waitpid(child, 0)
    if len(drawn) != count:
        raise RuntimeError(f"a forked child drew {len(drawn)} numbers, not {count}")
    return drawn
