from pathlib import Path

import numpy as np
import pytest

from sordino.released_model import model_outputs, open_model
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.model_file import ReleasedModel, write_model
from sordino_protocols.models import LogisticSpec
from sordino_protocols.scaling import Scaling

SPEC = LogisticSpec(kind="logistic")
# Two weights and a bias.
WEIGHTS = np.array([2.0, -1.0, 0.5])
SCALING = Scaling(np.array([0.5, 0.0]), np.array([4.0, 1.0]))
FEATURES = np.array([[0.75, 0.25], [0.5, -1.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("scaling", "expected"), [(None, [[1.75], [2.5]]), (SCALING, [[2.25], [1.5]])]
)
def test_a_model_is_used_with_its_scaling(
    tmp_path: Path, scaling: Scaling | None, expected: list[list[float]]
) -> None:
    path = tmp_path / "run-1.model.safetensors"
    path.write_bytes(write_model(ReleasedModel(WEIGHTS, scaling), job_digest="ab", run_id="run-1"))
    assert model_outputs(open_model(path), SPEC, FEATURES).tolist() == expected


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_model(tmp_path / "absent")
    (tmp_path / "other").write_bytes(b"PK")
    with pytest.raises(InputError):
        open_model(tmp_path / "other")


def test_a_scaling_of_other_features_is_an_error() -> None:
    other = Scaling(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="expected"):
        model_outputs(ReleasedModel(WEIGHTS, other), SPEC, FEATURES)
