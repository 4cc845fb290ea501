"""A small model of every kind of layer, and each record's gradient of it the naive way."""

from dataclasses import dataclass

import numpy as np
import torch
from model_stacks import SPECS, Raw, layers_spec
from numpy.typing import NDArray

from sordino_client.training.losses import Loss
from sordino_protocols.models import ModelSpec
from sordino_protocols.networks import build, load_flat

FloatArray = NDArray[np.float64]
FeatureArray = NDArray[np.float32] | NDArray[np.int64]

OUTPUTS = 3
WORDS = 7


@dataclass(frozen=True)
class Kind:
    """A model, and what it takes.

    Attributes:
        spec: with `OUTPUTS` outputs.
        features: how many.
        is_words: whether they are indices below `WORDS`.
        image: channels, height, width, if they are an image.
    """

    spec: ModelSpec
    features: int
    is_words: bool = False
    image: tuple[int, int, int] | None = None

    def records(self, count: int, seed: int = 0) -> FeatureArray:
        rng = np.random.default_rng(seed)
        if self.is_words:
            return rng.integers(0, WORDS, (count, self.features))
        return rng.uniform(-1, 1, (count, self.features)).astype(np.float32)

    def labels(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        return np.random.default_rng(seed + 1).integers(0, OUTPUTS, count).astype(np.float32)


def _stack(*layers: Raw) -> ModelSpec:
    return layers_spec(list(layers), outputs=OUTPUTS)


def _images(*layers: Raw) -> ModelSpec:
    tail: tuple[Raw, ...] = (
        {"kind": "activation", "function": "tanh"},
        {"kind": "flatten"},
        {"kind": "linear", "outputs": OUTPUTS},
    )
    return _stack({"kind": "reshape", "shape": [2, 5, 4]}, *layers, *tail)


def _sentences(*layers: Raw) -> ModelSpec:
    words: Raw = {"kind": "embedding", "vocabulary": WORDS, "width": 4}
    head: tuple[Raw, ...] = ({"kind": "flatten"}, {"kind": "linear", "outputs": OUTPUTS})
    return _stack(words, *layers, *head)


_IMAGE = (2, 5, 4)

KINDS: dict[str, Kind] = {
    "logistic": Kind(SPECS.validate_python({"kind": "logistic", "outputs": OUTPUTS}), 5),
    "mlp": Kind(
        SPECS.validate_python(
            {"kind": "mlp", "hidden": [6, 4], "activation": "tanh", "outputs": OUTPUTS}
        ),
        5,
    ),
    "nade": Kind(
        SPECS.validate_python({"kind": "nade", "hidden": 5, "cells": [4, WORDS, 4]}),
        3,
        is_words=True,
    ),
    "linear on a sequence": Kind(
        _stack(
            {"kind": "reshape", "shape": [4, 3]},
            {"kind": "linear", "outputs": 5, "bias": False},
            {"kind": "activation", "function": "gelu"},
            {"kind": "flatten"},
            {"kind": "linear", "outputs": OUTPUTS},
        ),
        12,
    ),
    "conv1d": Kind(
        _stack(
            {"kind": "reshape", "shape": [2, 7]},
            {"kind": "conv1d", "channels": 3, "kernel": 3, "stride": 2, "padding": 1},
            {"kind": "flatten"},
            {"kind": "linear", "outputs": OUTPUTS},
        ),
        14,
    ),
    "conv2d": Kind(
        _images({"kind": "conv2d", "channels": 3, "kernel": [3, 2], "padding": [1, 1]}),
        40,
        image=_IMAGE,
    ),
    "grouped conv2d, by Opacus": Kind(
        _images({"kind": "conv2d", "channels": 4, "kernel": [3, 2], "groups": 2}), 40, image=_IMAGE
    ),
    "group norm": Kind(
        _images(
            {"kind": "conv2d", "channels": 4, "kernel": [2, 2]},
            {"kind": "group_norm", "groups": 2},
        ),
        40,
        image=_IMAGE,
    ),
    "layer norm": Kind(
        _stack(
            {"kind": "linear", "outputs": 6},
            {"kind": "layer_norm"},
            {"kind": "activation", "function": "tanh"},
            {"kind": "linear", "outputs": OUTPUTS},
        ),
        5,
    ),
    "embedding": Kind(_sentences({"kind": "positional_embedding"}), 5, is_words=True),
    "lstm": Kind(_sentences({"kind": "lstm", "hidden": 3, "layers": 2}), 5, is_words=True),
    "gru": Kind(_sentences({"kind": "gru", "hidden": 3}), 5, is_words=True),
    "attention": Kind(
        _sentences({"kind": "residual", "layers": [{"kind": "attention", "heads": 2}]}),
        5,
        is_words=True,
    ),
}


def naive_gradients(
    spec: ModelSpec,
    features: FeatureArray,
    labels: NDArray[np.float32],
    weights: FloatArray,
    loss: Loss,
) -> FloatArray:
    """[records, parameters], float64: plain back-propagation of one record at a time."""
    module = build(spec, features.shape[1])
    load_flat(module, weights)
    parameters = list(module.parameters())
    rows = np.zeros((len(labels), len(weights)))
    for row, filled in enumerate(rows):
        record = torch.tensor(features[row : row + 1]).double()
        label = torch.tensor(labels[row : row + 1]).double()
        total = loss.per_record(module(record), label).sum()
        gradients = torch.autograd.grad(total, parameters)
        filled[:] = torch.cat([each.reshape(-1) for each in gradients]).numpy()
    return rows
