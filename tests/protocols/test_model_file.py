from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from sordino_protocols.errors import InputError
from sordino_protocols.model_file import ReleasedModel, read_model, write_model
from sordino_protocols.scaling import Scaling

WEIGHTS = np.array([0.1, -2.5, 1e-300])
SCALING = Scaling(np.array([0.25, 0.0]), np.array([4.0, 1.0]))


@pytest.mark.parametrize("scaling", [None, SCALING])
def test_a_model_comes_back_with_its_scaling(scaling: Scaling | None) -> None:
    content = write_model(ReleasedModel(WEIGHTS, scaling), job_digest="ab", run_id="run-1")
    model = read_model(content)
    assert model.weights.tobytes() == WEIGHTS.tobytes()
    if scaling is None:
        assert model.scaling is None
    else:
        assert model.scaling is not None
        assert model.scaling.shift.tolist() == scaling.shift.tolist()
        assert model.scaling.factor.tolist() == scaling.factor.tolist()


def test_whoever_reads_the_file_sees_that_features_are_scaled(tmp_path: Path) -> None:
    for scaling, version in ((None, "sordino/flat/1"), (SCALING, "sordino/flat/2")):
        path = tmp_path / "model.safetensors"
        path.write_bytes(
            write_model(ReleasedModel(WEIGHTS, scaling), job_digest="ab", run_id="run-1")
        )
        with safe_open(path, framework="numpy") as file:
            assert file.metadata() == {"format": version, "job_digest": "ab", "run_id": "run-1"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        save({"scaling": np.zeros((2, 2))}),
        save({"weights": np.zeros((2, 2))}),
        save({"weights": np.zeros(2, dtype=np.float32)}),
        save({"weights": np.zeros(2), "surplus": np.zeros(2)}),
        save({"weights": np.zeros(2), "scaling": np.zeros((3, 2))}),
        save({"weights": np.zeros(2), "scaling": np.full((2, 2), np.nan)}),
    ],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        read_model(content)
