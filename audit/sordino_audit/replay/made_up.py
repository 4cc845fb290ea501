"""Records made up from a public schema, as cells that the real encoder takes.

Three styles: "typical" ones lie anywhere within the declared bounds; "corner" ones have every
number close to one of its bounds, which gives the longest gradients in directions of their own;
"plain" ones have every number in the middle but one. No two records need be equal.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sordino_client.data.encode import encode
from sordino_client.data.storage import FeatureArray
from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
    TextColumn,
    TokensColumn,
    VectorColumn,
    source_names_of,
)
from sordino_protocols.schema import Schema

Style = Literal["typical", "corner", "plain"]
Generator = np.random.Generator

_MISSING_SHARE = 0.1
_CORNER_SHARE = 0.1


def made_up_features(schema: Schema, count: int, *, style: Style, rng: Generator) -> FeatureArray:
    """Encoded features of `count` records that the schema allows, [count, features].

    Args:
        schema: the public declaration.
        count: how many.
        style: what they are like.
        rng: draws them.
    """
    cells = _columns(schema, count, style=style, rng=rng)
    cells |= {schema.roles.label: _first_label(schema, count)}
    return encode(pd.DataFrame(cells), schema, source="made-up records").features


def made_up_frame(schema: Schema, count: int, *, rng: Generator) -> pd.DataFrame:
    """Records that the schema allows as its source would have them, labels of all kinds included.

    Args:
        schema: the public declaration.
        count: how many.
        rng: draws them.
    """
    cells = _columns(schema, count, style="typical", rng=rng)
    nobody = np.zeros(count, dtype=np.bool_)
    label = _block(schema.label, count, style="typical", is_moved=nobody, rng=rng)
    return pd.DataFrame(cells | {schema.roles.label: label[:, 0]})


def _columns(
    schema: Schema, count: int, *, style: Style, rng: Generator
) -> dict[str, NDArray[np.object_] | NDArray[np.float64]]:
    """The source's columns but for the label, by name."""
    moved = rng.integers(0, len(schema.features), count)
    cells: dict[str, NDArray[np.object_] | NDArray[np.float64]] = {}
    for place, (name, column) in enumerate(schema.features):
        is_moved = moved == place
        block = _block(column, count, style=style, is_moved=is_moved, rng=rng)
        names = source_names_of(name, column)
        cells |= {each: block[:, index] for index, each in enumerate(names)}
    return cells


def followed_labels(
    schema: Schema, features: FeatureArray, *, outputs: int, rng: Generator
) -> NDArray[np.float32]:
    """Encoded labels [records] that follow the features by a rule which `rng` draws.

    Args:
        schema: says what is learnt.
        features: [records, features], encoded.
        outputs: of the model; classes where there are several.
        rng: draws the rule: the same for the same generator.
    """
    signal = _signal(features, schema.vocabulary, max(outputs, 1), rng)
    label: NDArray[np.bool_] | NDArray[np.int64] | NDArray[np.float64]
    match schema.task:
        case "binary":
            label = signal[:, 0] > 0
        case "classes":
            label = signal.argmax(axis=1)
        case "number":
            label = np.tanh(signal[:, 0])
    return np.asarray(label, dtype=np.float32)


def _signal(
    features: FeatureArray, vocabulary: int | None, outputs: int, rng: Generator
) -> NDArray[np.float64]:
    if vocabulary is not None:
        table = rng.normal(size=(vocabulary, outputs))
        return np.asarray(table[features].mean(axis=1))
    weights = rng.normal(size=(features.shape[1], outputs))
    return np.asarray(features.astype(np.float64) @ weights)


def _first_label(schema: Schema, count: int) -> NDArray[np.object_]:
    """Any cell that the label's column allows; labels are made from the features."""
    match schema.label:
        case CategoryColumn() as label:
            cell: str | float = label.words[0]
        case IntegerColumn() | NumberColumn() as label:
            cell = float(label.min)
    return np.full(count, cell, dtype=np.object_)


def _block(
    column: AnyColumn, count: int, *, style: Style, is_moved: NDArray[np.bool_], rng: Generator
) -> NDArray[np.object_] | NDArray[np.float64]:
    """A column's cells, [count, cells of a record]."""
    match column:
        case CategoryColumn():
            drawn = rng.integers(0, len(column.words), count)
            chosen = np.where(is_moved, drawn, 0) if style == "plain" else drawn
            words = np.array(column.words, dtype=np.object_)[chosen]
            is_missing = rng.random(count) < _MISSING_SHARE
            if column.nullable and style == "typical":
                words[is_missing] = None
            return words[:, np.newaxis]
        case IntegerColumn() | NumberColumn():
            numbers = _numbers(column, (count, 1), style=style, is_moved=is_moved, rng=rng)
            is_missing = rng.random(count) < _MISSING_SHARE
            if column.nullable and style == "typical":
                numbers[is_missing] = np.nan
            return numbers
        case VectorColumn():
            shape = (count, column.count)
            return _numbers(column, shape, style=style, is_moved=is_moved, rng=rng)
        case TokensColumn():
            return rng.integers(0, column.vocabulary, (count, column.length)).astype(np.float64)
        case SetColumn():
            most = 0 if style == "plain" else column.at_most
            sizes = np.where(is_moved, 1, rng.integers(0, most + 1, count))
            return _sets(column, sizes, rng)
        case TextColumn():
            return np.empty((count, 0), dtype=np.object_)


def _sets(column: SetColumn, sizes: NDArray[np.int64], rng: Generator) -> NDArray[np.object_]:
    """Sets of so many words, each word as likely, as text cells [count, 1]."""
    words = np.array(column.words, dtype=np.object_)
    cells = [column.separator.join(rng.permutation(words)[:size]) for size in sizes]
    return np.array(cells, dtype=np.object_)[:, np.newaxis]


def _numbers(
    column: IntegerColumn | NumberColumn | VectorColumn,
    shape: tuple[int, int],
    *,
    style: Style,
    is_moved: NDArray[np.bool_],
    rng: Generator,
) -> NDArray[np.float64]:
    low, high = float(column.min), float(column.max)
    if style == "typical":
        return rng.uniform(low, high, shape)
    if style == "corner":
        near = rng.uniform(0, _CORNER_SHARE * (high - low), shape)
        return np.where(rng.random(shape) < 0.5, low + near, high - near)  # noqa: PLR2004 (a coin)
    # One number of a moved block leaves the middle, and no other does.
    place = rng.integers(0, shape[1], (shape[0], 1))
    leaves = is_moved[:, np.newaxis] & (np.arange(shape[1]) == place)
    return np.where(leaves, rng.uniform(low, high, shape), (low + high) / 2)
