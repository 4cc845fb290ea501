"""Models and data sets as a data scientist has them on disk, checked against each other."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from sordino_client.data.declaration import DatasetFile
from sordino_protocols.architecture import Architecture
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, parse_toml, read_text
from sordino_protocols.graph import GraphSpec
from sordino_protocols.job import JobFile
from sordino_protocols.layers import LayersSpec
from sordino_protocols.models import LogisticSpec, MlpSpec, ModelSpec, architecture_of
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.plan import LossName
from sordino_protocols.schema import Schema, Task
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.nade import check_cells
from sordino_protocols.weighted import Embedding

_LOSSES: dict[Task, LossName] = {
    "binary": "binary",
    "classes": "cross_entropy",
    "number": "squared",
}


class ModelFile(BaseModel):
    """A file with nothing but a `[model]` table."""

    model_config = STRICT

    model: ModelSpec


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model and where it was read.

    Attributes:
        spec: the model.
        loss: the job's; None where the file is no job.
        source: what errors call the file.
    """

    spec: ModelSpec
    loss: LossName | None
    source: str

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model's embedding knows; None if it starts with none."""
        match self.spec:
            case LogisticSpec() | MlpSpec() | NadeModelSpec():
                return None
            case GraphSpec(nodes=nodes):
                operations = [node.operation for node in nodes]
                tables = [each for each in operations if isinstance(each, Embedding)]
            case LayersSpec(layers=layers):
                tables = [layer for layer in layers if isinstance(layer, Embedding)]
            case preset:
                tables = [layer for layer in preset.expand() if isinstance(layer, Embedding)]
        return min((table.vocabulary for table in tables), default=None)


def read_model(path: Path) -> NamedModel:
    """Read the model of a job file, or of a file with a `[model]` table alone.

    Raises:
        NotFoundError: there is no such file.
        InputError: names file, key and what was expected.
    """
    text = read_text(path)
    if "job" in _tables(text):
        file = parse_toml(text, JobFile, source=str(path))
        return NamedModel(file.require_model(), file.loss, str(path))
    return NamedModel(parse_toml(text, ModelFile, source=str(path)).model, None, str(path))


def read_declaration(path: Path) -> Schema | DatasetFile:
    """Read a data set's declaration, with or without a `[source]`.

    Raises:
        NotFoundError: there is no such file.
        InputError: names file, key and what was expected.
    """
    text = read_text(path)
    model = DatasetFile if "source" in _tables(text) else Schema
    return parse_toml(text, model, source=str(path)).with_words(path.absolute().parent)


def read_schema(path: Path) -> Schema:
    """Read a data set's public schema, from a file with or without a `[source]`.

    Raises:
        NotFoundError: there is no such file.
        InputError: names file, key and what was expected.
    """
    declared = read_declaration(path)
    return declared.public if isinstance(declared, DatasetFile) else declared


def check_fits(spec: ModelSpec, loss: LossName, schema: Schema, *, source: str) -> None:
    """Refuse a model or a loss for another kind of label than the data set has.

    A model of whole records has no label: it must know the data set's cells.

    Raises:
        InputError: says what the data set's task needs, or its cells.
    """
    if isinstance(spec, NadeModelSpec):
        if loss != "likelihood":
            raise InputError(f"{source}: training.loss is {loss!r}; a nade needs 'likelihood'")
        check_cells(spec, domain_of(schema).shape)
        return
    task = schema.task
    if loss != _LOSSES[task]:
        raise InputError(
            f"{source}: training.loss is {loss!r}; roles.task = {task!r} of the data set needs"
            f" {_LOSSES[task]!r}"
        )
    if spec.outputs != schema.outputs:
        raise InputError(
            f"{source}: model.outputs is {spec.outputs}; roles.task = {task!r} of the data set"
            f" needs {schema.outputs}"
        )


def admit(model: NamedModel, schema: Schema) -> Architecture:
    """Write the model out for a data set, and try on made-up records whether it can be trained.

    Raises:
        InputError: it does not fit the data set, or the engine has no per-unit gradients for it.
    """
    # Torch takes a second: other commands must not wait for it.
    from sordino_client.training.clipping import network_for  # noqa: PLC0415

    is_of_records = isinstance(model.spec, NadeModelSpec)
    loss = model.loss or ("likelihood" if is_of_records else _LOSSES[schema.task])
    check_fits(model.spec, loss, schema, source=model.source)
    architecture = architecture_of(model.spec, schema.feature_count)
    network_for(model.spec, schema.feature_count, loss)
    return architecture


def _tables(text: str) -> frozenset[str]:
    """The names at the top of a file; none if it is no TOML, which its reader will say."""
    try:
        return frozenset(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return frozenset()
