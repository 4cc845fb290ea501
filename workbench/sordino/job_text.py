"""Models and jobs as the files that a person keeps, changes and submits."""

from collections.abc import Sequence
from pathlib import Path

from sordino.toml_text import toml_text
from sordino_protocols.files import write_public
from sordino_protocols.job import JobFile
from sordino_protocols.models import ModelSpec


def model_toml(spec: ModelSpec) -> str:
    """The `[model]` table of a job file; it reads back as an equal spec.

    What was left at its default when the spec was made is left out.
    """
    return toml_text({"model": spec.model_dump(mode="json", exclude_unset=True)})


def write_model_toml(spec: ModelSpec, path: Path | str) -> None:
    """Write `model_toml` to a new file.

    `sordino model check` reads it, and it can be pasted into a job file.

    Raises:
        InputError: the file exists already, or cannot be written.
    """
    write_public(Path(path), model_toml(spec).encode())


def job_toml(file: JobFile, *, comments: Sequence[str] = ()) -> str:
    """A job file; it reads back as an equal one. Keys that nobody set are left out.

    Args:
        file: the job.
        comments: lines at the top.
    """
    return toml_text(file.model_dump(mode="json", exclude_unset=True), comments=comments)
