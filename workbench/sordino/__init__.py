"""The front door: the `sordino` command and the data scientist's SDK.

The SDK's names are loaded when they are first used: the command must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sordino.embedding import embedding_blocks
    from sordino.job_text import job_toml, model_toml, write_model_toml
    from sordino.own_synthesis import fit_generator, sample, synthesize
    from sordino.released_model import model_outputs, open_model
    from sordino.tracing import (
        TracedModel,
        load_weights,
        spec_from_module,
        trace,
        weights_from_module,
    )

__all__ = [
    "TracedModel",
    "embedding_blocks",
    "fit_generator",
    "job_toml",
    "load_weights",
    "model_outputs",
    "model_toml",
    "open_model",
    "sample",
    "spec_from_module",
    "synthesize",
    "trace",
    "weights_from_module",
    "write_model_toml",
]

_MODULES = {
    "embedding_blocks": "sordino.embedding",
    "fit_generator": "sordino.own_synthesis",
    "job_toml": "sordino.job_text",
    "model_outputs": "sordino.released_model",
    "model_toml": "sordino.job_text",
    "open_model": "sordino.released_model",
    "sample": "sordino.own_synthesis",
    "synthesize": "sordino.own_synthesis",
    "write_model_toml": "sordino.job_text",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "sordino.tracing")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
