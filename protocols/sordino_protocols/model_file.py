"""The file of a released model: flat weights, and what must be done to features before them.

Whoever uses the model without its scaling uses another model, so both are in one file. safetensors
holds arrays and text alone; nothing is unpickled.
"""

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector
from sordino_protocols.scaling import Scaling, scaling_from

# Version 1 has no scaling; version 2 must not be read without it.
_FORMATS = ("sordino/flat/1", "sordino/flat/2")


@dataclass(frozen=True, slots=True)
class ReleasedModel:
    """A model as a run leaves it.

    Attributes:
        weights: flat float64 parameters of the job's model.
        scaling: of the features; None where they enter as the schema scales them.
    """

    weights: FloatVector
    scaling: Scaling | None


def write_model(model: ReleasedModel, *, job_digest: str, run_id: str) -> bytes:
    """The file's content: tensor `weights`, and `scaling` [2, features] (shifts, factors)."""
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]
    tensors = {"weights": model.weights}
    if model.scaling is not None:
        tensors["scaling"] = np.stack([model.scaling.shift, model.scaling.factor])
    metadata = {
        "format": _FORMATS[model.scaling is not None],
        "job_digest": job_digest,
        "run_id": run_id,
    }
    return bytes(save(tensors, metadata=metadata))


def read_model(content: bytes) -> ReleasedModel:
    """Read a file's content.

    Raises:
        InputError: it is no model that was written here.
    """
    try:
        tensors = load(content)
    except (SafetensorError, ValueError):
        raise InputError("this is no model file of sordino") from None
    weights, scaling = tensors.pop("weights", None), tensors.pop("scaling", None)
    if weights is None or tensors or weights.ndim != 1 or weights.dtype != np.float64:
        raise InputError("a model file has flat float64 weights, and perhaps a scaling")
    if scaling is not None and scaling.shape[:1] != (2,):
        raise InputError("a model file's scaling has a row of shifts and one of factors")
    return ReleasedModel(weights, None if scaling is None else scaling_from(scaling.reshape(-1)))
