"""Images as public, hand-crafted features: a scattering transform, whitened on drawn strokes.

Features that no record had a say in cost no privacy, and a linear model on them learns what a
convolutional network learns, with less noise (Tramèr & Boneh 2021). Two steps:

1. Scattering (Bruna & Mallat 2013) with two scales and eight orientations: moduli of Morlet
   wavelets, and of wavelets of these, averaged over a grid of 7 x 7 places.
2. Whitening by the principal components of the same features of random strokes that `draw_strokes`
   makes: curves of the pen, drawn by a generator with a fixed seed. They have no classes and look
   like no digit in particular; all that is used of the data set is that its images are centred
   strokes of a pen on 28 x 28 pixels. Plain scattering features share one large mean, along which
   gradient descent would spend its budget.

Every record is brought to norm 1, a function of the record alone.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28
_ORIENTATIONS = 8
_SLANT = 4 / _ORIENTATIONS
_GRID = 7
_CHUNK = 256
_POINTS = 24

Images = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Whitening:
    """A linear map of scattering features, made of strokes alone.

    Attributes:
        mean: [features].
        directions: [features, components], principal directions over their standard deviations.
    """

    mean: Tensor
    directions: Tensor


def image_features(images: Images, whitening: Whitening) -> Features:
    """Features [n, components] of norm 1 of images [n, 28, 28] in [0, 1]."""
    parts = []
    for start in range(0, len(images), _CHUNK):
        white = (scattering(images[start : start + _CHUNK]) - whitening.mean) @ whitening.directions
        parts.append(functional.normalize(white, dim=1))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def fit_whitening(*, strokes: int, components: int, ridge: float) -> Whitening:
    """The whitening of `strokes` random drawings.

    Args:
        strokes: how many drawings.
        components: principal components that are kept.
        ridge: share of the largest variance that is added to each: how far weak components are
            held back.
    """
    drawn = draw_strokes(strokes, np.random.default_rng(0))
    chunks = [scattering(drawn[i : i + _CHUNK]) for i in range(0, strokes, _CHUNK)]
    features = torch.cat(chunks)
    mean = features.mean(dim=0)
    centred = features - mean
    variances, directions = torch.linalg.eigh((centred.T @ centred / strokes).double())
    variances, directions = variances.flip(0)[:components], directions.flip(1)[:, :components]
    scales = (variances + ridge * variances[0]).sqrt()
    return Whitening(mean, (directions / scales).float())


def scattering(images: Images) -> Tensor:
    """Square roots of scattering coefficients, [n, 81 * 49], of images [n, 28, 28].

    Order 0, order 1 at both scales, and order 2 from the fine to the coarse scale.
    """
    pixels = torch.from_numpy(images)[:, None]
    fine = functional.avg_pool2d(_moduli(pixels, _wavelets(scale=0)), 2)
    coarse = _moduli(pixels, _wavelets(scale=1), stride=2)
    # At half the resolution, the coarse wavelet is the fine one.
    rows = fine.reshape(-1, 1, *fine.shape[2:])
    second = _moduli(rows, _wavelets(scale=0)).reshape(len(images), -1, *fine.shape[2:])
    maps = torch.cat([functional.avg_pool2d(pixels, 2), fine, coarse, second], dim=1)
    averages = maps.flatten(2) @ _averaging(maps.shape[-1]).T
    return averages.clamp(min=0).sqrt().flatten(1)


def draw_strokes(count: int, rng: np.random.Generator) -> Images:
    """`count` drawings of one to three quadratic Bézier curves, [count, 28, 28] in [0, 1]."""
    return np.stack([_drawing(rng) for _ in range(count)])


def _drawing(rng: np.random.Generator) -> Images:
    time = np.linspace(0, 1, _POINTS)
    bernstein = np.stack([(1 - time) ** 2, 2 * time * (1 - time), time**2], axis=1)
    start, curves = rng.uniform(5, 22, 2), []
    for _ in range(rng.integers(1, 4)):
        control = np.stack([start, rng.uniform(3, 24, 2), rng.uniform(5, 22, 2)])
        curves.append(bernstein @ control)
        start = control[2] if rng.random() < 0.7 else rng.uniform(5, 22, 2)
    points = np.concatenate(curves)
    points += (SIDE - 1) / 2 - points.mean(axis=0)
    y, x = np.mgrid[:SIDE, :SIDE]
    squared = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    ink = rng.uniform(0.8, 1.8) + 0.5 - np.sqrt(squared.min(axis=-1))
    return np.asarray(np.clip(ink, 0, 1), dtype=np.float32)


def _moduli(maps: Tensor, wavelets: Tensor, *, stride: int = 1) -> Tensor:
    """[n, 1, side, side] to [n, orientations, side, side]: the moduli of complex wavelets."""
    padding = wavelets.shape[-1] // 2
    responses = functional.conv2d(maps, wavelets, stride=stride, padding=padding)
    return torch.hypot(responses[:, :_ORIENTATIONS], responses[:, _ORIENTATIONS:])


def _wavelets(*, scale: int) -> Tensor:
    """Morlet wavelets of 2^scale pixels: real parts, then imaginary ones, [16, 1, side, side]."""
    half = 3 if scale == 0 else 7
    sigma, frequency = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
    y, x = torch.meshgrid(*2 * [torch.arange(-half, half + 1.0)], indexing="ij")
    made = []
    for orientation in range(_ORIENTATIONS):
        angle = math.pi * orientation / _ORIENTATIONS
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + (_SLANT * across) ** 2) / (2 * sigma**2))
        wave = envelope * torch.exp(1j * frequency * along)
        # A wavelet has mean zero.
        wave = wave - envelope * (wave.sum() / envelope.sum())
        made.append(wave * _SLANT / (2 * math.pi * sigma**2))
    return torch.stack([w.real for w in made] + [w.imag for w in made])[:, None]


def _averaging(side: int) -> Tensor:
    """Gaussian averages of a map [side, side] around 7 x 7 places: a matrix [49, side * side]."""
    step = side / _GRID
    centres = (torch.arange(_GRID) + 0.5) * step - 0.5
    distances = (centres[:, None] - torch.arange(side)[None]) / (0.4 * step)
    # Far places count nothing at all: denormal numbers would make the product slow.
    weights = torch.where(distances.abs() < 4, torch.exp(-distances.square() / 2), 0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.kron(weights, weights)
