"""A model that somebody brings to be validated, from a file; and the job that names it."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.job import JobFile, weights_digest
from sordino_protocols.model_file import ReleasedModel, read_model

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def read_weights(path: Path) -> ReleasedModel:
    """Read a model's file: one that a run left, or a safetensors file with one flat vector.

    Args:
        path: of a file that `sordino job fetch` wrote, with its scaling if it has one; or with one
            tensor of one axis, float32 or float64, in the order of the job's model.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is none of both, or holds a number that is not finite in single precision.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    model = _bare(content) or _as_released(content, path)
    with np.errstate(over="ignore"):
        is_finite = bool(np.isfinite(model.weights.astype(np.float32)).all())
    if not is_finite:
        raise InputError(f"{path}: has weights that are not finite")
    return model


def model_digest(model: ReleasedModel) -> str:
    """What `validation.weights_sha256` says of a model."""
    scaling = np.zeros(0, dtype=np.float32) if model.scaling is None else model.scaling.vector()
    return weights_digest(model.weights.astype(np.float32), scaling)


def naming(file: JobFile, model: ReleasedModel) -> JobFile:
    """The validation of a model: names it where the file leaves that out.

    Raises:
        InputError: the job is no validation, or names another model.
    """
    section = file.validation
    if section is None:
        raise InputError("the job has no [validation]: weights go with job.kind = 'validate'")
    digest = model_digest(model)
    if section.weights_sha256 not in {None, digest}:
        raise InputError(
            f"validation.weights_sha256 is {section.weights_sha256}; the weights have {digest}"
        )
    named = section.model_copy(update={"weights_sha256": digest})
    return file.model_copy(update={"validation": named})


def _bare(content: bytes) -> ReleasedModel | None:
    """A file with nothing but one flat vector."""
    try:
        tensors = list(load(content).values())
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    match tensors:
        case [vector] if vector.ndim == 1 and vector.dtype in _FLOATS:
            return ReleasedModel(vector.astype(np.float64), None)
        case _:
            return None


def _as_released(content: bytes, path: Path) -> ReleasedModel:
    try:
        return read_model(content)
    except InputError as error:
        raise InputError(f"{path}: {error}, nor a safetensors file with one flat vector") from None
