import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save
from small_domain import small_cells, small_schema, small_table

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.constraints import is_forbidden
from sordino_protocols.synthesis.generator_file import Generator, read_generator, write_generator
from sordino_protocols.synthesis.mixture_fit import fit_mixture

NEVER = '[[constraints]]\nnever = { sex = "male", work = ["gov", "other"] }\n'


@pytest.fixture(scope="module")
def generator() -> Generator:
    rng = np.random.default_rng(1)
    table = small_table(small_cells(1000, rng=rng), noise_multiplier=1, rng=rng, site="köln")
    return Generator(small_schema(NEVER), fit_mixture([table], components=5, steps=20, rng=rng))


@pytest.fixture(scope="module")
def content(generator: Generator) -> bytes:
    return write_generator(generator, run_id="r1", job_digest="d1")


def test_what_is_written_is_what_is_read(generator: Generator, content: bytes) -> None:
    again = read_generator(content)
    assert again.schema == generator.schema
    assert again.mixture.sites == ("köln",)
    for name in ("units", "weights", "cells", "fine"):
        np.testing.assert_array_equal(
            getattr(again.mixture, name), getattr(generator.mixture, name)
        )
    rows, expected = (each.sample(30, rng=np.random.default_rng(2)) for each in (again, generator))
    np.testing.assert_array_equal(rows, expected)


def test_the_same_generator_is_the_same_file(generator: Generator, content: bytes) -> None:
    assert write_generator(generator, run_id="r1", job_digest="d1") == content
    assert header_of(content)["run_id"] == "r1"


def test_what_is_sampled_obeys_the_constraints(generator: Generator) -> None:
    rows = generator.sample(3000, rng=np.random.default_rng(3))
    assert not is_forbidden(rows, generator.schema).any()
    unconstrained = generator.mixture.sample(3000, rng=np.random.default_rng(3))
    assert is_forbidden(unconstrained, generator.schema).any()


def test_a_schema_of_another_shape_is_refused(generator: Generator) -> None:
    other = generator.schema.narrowed(["age", "work"])
    with pytest.raises(InputError, match="another shape than its mixture"):
        Generator(other, generator.mixture)


def header_of(content: bytes) -> dict[str, object]:
    facts = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    return dict(json.loads(facts["sordino"]))


def rewritten(
    content: bytes, *, without: str = "", changes: dict[str, object] | None = None
) -> bytes:
    """The file with other facts, or without a fact or a tensor."""
    facts = {k: v for k, v in (header_of(content) | (changes or {})).items() if k != without}
    tensors = {k: v for k, v in load(content).items() if k != without}
    return bytes(save(tensors, metadata={"sordino": json.dumps(facts)}))


def test_a_file_is_read_after_it_is_written_again(content: bytes) -> None:
    assert read_generator(rewritten(content)).mixture.sites == ("köln",)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "sordino/mixture/9"},
        {"schema": {}},
        {"sites": ["a", "b"]},
        {"sites": [1]},
        {"sites": "a"},
        {"more": "x"},
    ],
)
def test_other_facts_are_refused(content: bytes, changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        read_generator(rewritten(content, changes=changes))


@pytest.mark.parametrize("without", ["format", "run_id", "schema", "sites", "cells", "fine"])
def test_a_file_without_a_part_is_refused(content: bytes, without: str) -> None:
    with pytest.raises(InputError):
        read_generator(rewritten(content, without=without))


@pytest.mark.parametrize("end", [0, 4, 8, 40, -1])
def test_a_cut_file_is_refused(content: bytes, end: int) -> None:
    with pytest.raises(InputError, match="this is no generator file"):
        read_generator(content[:end])


def test_a_model_file_is_no_generator() -> None:
    with pytest.raises(InputError, match="this is no generator file"):
        read_generator(bytes(save({"weights": np.zeros(3)})))


def test_single_precision_is_refused(content: bytes) -> None:
    tensors = {name: each.astype(np.float32) for name, each in load(content).items()}
    facts = {"sordino": json.dumps(header_of(content))}
    with pytest.raises(InputError, match="has the float64 tensors"):
        read_generator(bytes(save(tensors, metadata=facts)))


def test_damaged_numbers_are_refused(generator: Generator) -> None:
    with pytest.raises(InputError, match="finite and not negative"):
        replace(generator.mixture, fine=-generator.mixture.fine)
