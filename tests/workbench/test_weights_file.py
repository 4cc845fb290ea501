"""A model that somebody brings: from a run's file or from a bare vector, named by its digest."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from small_job import TEXT, VALIDATION, read_file, validating

from sordino.weights_file import model_digest, naming, read_weights
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.model_file import ReleasedModel, write_model
from sordino_protocols.scaling import Scaling

WEIGHTS = np.array([0.5, -1.25, 3.0, 0.125])
WITHOUT_DIGEST = VALIDATION.replace(f'weights_sha256 = "{"0a" * 32}"\n', "")


def test_a_file_that_a_run_left_is_read_with_its_scaling(tmp_path: Path) -> None:
    scaling = Scaling(np.array([0.25, 0.5, 0.0]), np.array([2.0, 1.0, 4.0]))
    path = tmp_path / "model.safetensors"
    path.write_bytes(write_model(ReleasedModel(WEIGHTS, scaling), job_digest="", run_id="r"))
    found = read_weights(path)
    assert found.weights.tolist() == WEIGHTS.tolist()
    assert found.scaling is not None
    assert found.scaling.vector().tolist() == scaling.vector().tolist()
    assert model_digest(found) != model_digest(ReleasedModel(WEIGHTS, None))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["weights", "anything"])
def test_a_bare_vector_is_a_model_without_scaling(
    tmp_path: Path, dtype: type[np.floating], name: str
) -> None:
    path = tmp_path / "bare.safetensors"
    path.write_bytes(save({name: WEIGHTS.astype(dtype)}))
    found = read_weights(path)
    assert found.scaling is None
    assert found.weights.tolist() == WEIGHTS.tolist()
    in_single = WEIGHTS.astype("<f4").tobytes()
    assert model_digest(found) == hashlib.sha256(in_single).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        save({"weights": np.ones((2, 2))}),
        save({"weights": np.ones(2, dtype=np.int64)}),
        save({"a": np.ones(2), "b": np.ones(2)}),
        save({"weights": np.array([np.nan, 1.0])}),
        save({"weights": np.array([1e300, 1.0])}),
    ],
)
def test_what_is_no_model_is_refused_by_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.safetensors"):
        read_weights(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_weights(tmp_path / "nowhere")


def test_a_job_is_filled_in_with_the_digest_of_its_model() -> None:
    model = ReleasedModel(WEIGHTS, None)
    named = naming(read_file(WITHOUT_DIGEST), model)
    assert named.validation is not None
    assert named.validation.weights_sha256 == model_digest(model)
    assert naming(read_file(validating(model_digest(model))), model) == named


def test_a_job_that_names_another_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"weights_sha256 is 0a0a.*the weights have"):
        naming(read_file(VALIDATION), ReleasedModel(WEIGHTS, None))
    with pytest.raises(InputError, match="validate"):
        naming(read_file(TEXT), ReleasedModel(WEIGHTS, None))
