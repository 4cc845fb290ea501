"""The model that a validation brings: checked here, so that no site is asked in vain.

Nothing rests on these checks: every site compares what it is asked to evaluate with the digest in
the signed job.
"""

from collections.abc import Iterable

import numpy as np

from sordino_protocols.errors import InputError
from sordino_protocols.job import Job, weights_digest
from sordino_protocols.model_file import ReleasedModel, read_model
from sordino_protocols.models import FloatVector, ModelSpec, parameter_count
from sordino_protocols.scaling import Scaling

MAX_MODEL_BYTES = 64 * 1024 * 1024
"""What a model's file may weigh: more than the largest model of a job in double precision."""


def join_pieces(pieces: Iterable[bytes]) -> bytes:
    """A file that comes in pieces, held in memory.

    Raises:
        InputError: it is larger than `MAX_MODEL_BYTES`; the rest is not read.
    """
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MAX_MODEL_BYTES:
            raise InputError(f"the model's file has more than {MAX_MODEL_BYTES} bytes")
    return bytes(content)


def read_brought(content: bytes, job: Job) -> ReleasedModel:
    """Read a model's file, if it is what the job is a validation of.

    Raises:
        InputError: the job is no validation, the file is no model, or it is another one.
    """
    validation = job.file.validation
    if validation is None:
        raise InputError("a job that trains brings no model")
    model = read_model(content)
    weights = model.weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise InputError("the model has weights that are not finite")
    scaling = np.zeros(0, dtype=np.float32) if model.scaling is None else model.scaling.vector()
    if weights_digest(weights, scaling) != validation.weights_sha256:
        raise InputError("the model is not the one that validation.weights_sha256 names")
    return model


def check_fit(
    weights: FloatVector, scaling: Scaling | None, spec: ModelSpec, *, features: int
) -> None:
    """Return if a model fits the features that the sites declare.

    Raises:
        InputError: another number of weights than the job's model has, or of scaled features.
    """
    size = parameter_count(spec, features)
    if len(weights) != size:
        raise InputError(
            f"the job brings {len(weights)} weights; its model of {features} features has {size}"
        )
    if scaling is not None and len(scaling) != features:
        raise InputError(f"the job scales {len(scaling)} features; the sites have {features}")
