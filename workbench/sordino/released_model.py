"""Using a model that a run has released: on public records or one's own, never a release again.

A model is its weights and the scaling of its features together; here is the one place that puts
both to use, so that nobody forgets the second.
"""

from pathlib import Path

import numpy as np

from sordino_client.data.storage import FeatureArray
from sordino_client.training.clipping import outputs
from sordino_protocols.errors import NotFoundError
from sordino_protocols.model_file import ReleasedModel, read_model
from sordino_protocols.models import FloatVector, ModelSpec


def open_model(path: Path) -> ReleasedModel:
    """Read a model's file, as `sordino job fetch` leaves it.

    Raises:
        NotFoundError: no such file.
        InputError: it is no model of sordino.
    """
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    return read_model(path.read_bytes())


def model_outputs(model: ReleasedModel, spec: ModelSpec, features: FeatureArray) -> FloatVector:
    """What the model makes of encoded records: logits, one a class, or numbers, [records, outputs].

    Args:
        model: as released.
        spec: the model of the run's job.
        features: [records, features] as the sites encode them, scaled by the schema alone.

    Raises:
        ValueError: the weights do not fit the spec, or the scaling not the features.
    """
    return np.asarray(outputs(model.weights, spec, features, scaling=model.scaling).numpy())
