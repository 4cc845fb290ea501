"""`sordino model`: look at a model before a job names it. Nothing is sent, nothing is imported.

A model is read as data. A PyTorch module becomes such data in its author's own Python, by
`sordino.trace`; no command imports a module by its path.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino.model_files import NamedModel
    from sordino_protocols.schema import Schema

model_app = typer.Typer(no_args_is_help=True, help="Look at models before a job names them.")

DatasetOption = Annotated[
    Path, typer.Option("--dataset", help="The data set's TOML file: the public schema is enough.")
]


@model_app.command("check")
def check(
    spec_file: Annotated[Path, typer.Argument(help="A job, or a file with a [model] table.")],
    dataset: DatasetOption,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table, json, jsonl.")
    ] = Output.TABLE,
) -> None:
    """Print a model's steps, shapes and weights for a data set, and try whether it can be trained.

    Exit code 2: it does not fit the data set, or the engine cannot train it.
    """
    from sordino.architecture_table import rows, slow_bytes, slow_note
    from sordino.model_files import admit, read_model, read_schema

    model, schema = read_model(spec_file), read_schema(dataset)
    architecture = admit(model, schema)
    facts = {
        "features": architecture.feature_count,
        "outputs": model.spec.outputs,
        "parameters": architecture.parameter_count,
        "values_a_record": architecture.activation_count,
        "slow_bytes_a_record": slow_bytes(architecture),
    }
    if output.is_json:
        show_object({**facts, "steps": rows(architecture)}, output=output)
    else:
        show(rows(architecture), output=output)
        sys.stdout.write("\n")
        show_object(facts, output=output)
    _tell(model, schema, slow_note(model.spec))


@model_app.command("embed")
def embed(
    dataset: DatasetOption,
    width: Annotated[int, typer.Option(help="Of each category's vector.", min=1, max=4096)] = 8,
) -> None:
    """Print the `embeddings` of a `kind = "mlp"` model: where each category's features are.

    Categories with no more features than the width are left as they are.
    """
    from sordino.embedding import named_embedding_blocks
    from sordino.model_files import read_schema
    from sordino.toml_text import inline_list

    named = named_embedding_blocks(read_schema(dataset), width=width)
    columns = ", ".join(name for name, _ in named) or "no category is wider than that"
    blocks = inline_list([block.model_dump() for _, block in named]) if named else "[]"
    sys.stdout.write(f"# {columns}\nembeddings = {blocks}\n")


def _tell(model: "NamedModel", schema: "Schema", slow: str | None) -> None:
    if slow is not None:
        note(f"note: {slow}")
    tokens = schema.vocabulary
    if tokens is not None and (known := model.vocabulary) is not None and known < tokens:
        note(
            f"note: the model knows {known} of the data set's {tokens} tokens;"
            " others count as the nearest that it knows"
        )
