"""The demo's job, made to fit a data set that came without one."""

from collections.abc import Sequence
from importlib.resources import files

from sordino import heart
from sordino.job_text import job_toml
from sordino_protocols.architecture import MAX_PARAMETERS
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile, JobSection, PrivacySection
from sordino_protocols.job_sections import TrainingSection
from sordino_protocols.layers import LayersSpec
from sordino_protocols.models import MAX_LAYER_WIDTH, LogisticSpec, ModelSpec
from sordino_protocols.operations import Mean
from sordino_protocols.optimizer import ServerOptimizer
from sordino_protocols.plan import LossName
from sordino_protocols.schema import Schema
from sordino_protocols.weighted import Embedding, Linear

_TOKEN_WIDTH = 16
_MOST_RECORDS = 100
# The gradient of a squared error grows with the features, and nothing but its clipping bounds it:
# beyond this many the hospitals' steps overshoot. Public, like everything here.
_FEATURES_OF_FULL_STEPS = 12


def hospitals_job_text() -> str:
    """The file of the job that the four hospitals run."""
    return (files(heart) / "job.toml").read_text(encoding="utf-8")


def built_in_job_text(schemas: Sequence[Schema]) -> str:
    """The hospitals' recipe as a job file for other sites.

    Loss, outputs, unit and kind of model are what the schema asks for: a linear model, of tokens
    one of their mean embedding.

    Args:
        schemas: of the sites, at least one, alike in columns, roles and unit.

    Raises:
        InputError: there are more classes than a model can have outputs.
    """
    recipe = parse_toml(hospitals_job_text(), JobFile, source="job.toml")
    schema = schemas[0]
    job = recipe.model_copy(
        update={
            "job": JobSection(name=schema.dataset.name, kind="train", dataset=schema.dataset.name),
            "privacy": _privacy(recipe.require_privacy(), schema),
            "model": _model(schema),
            "training": _training(recipe.require_training(), schemas),
            "optimizer": _optimizer(recipe.require_optimizer(), schema),
            "cohort": recipe.cohort.model_copy(update={"quorum": len(schemas)}),
        }
    )
    return job_toml(job, comments=(f"The demo's recipe for {schema.dataset.name}.",))


def _privacy(recipe: PrivacySection, schema: Schema) -> PrivacySection:
    unit = "record" if schema.dataset.unit is None else "entity"
    return recipe.model_copy(update={"unit": unit})


def _model(schema: Schema) -> ModelSpec:
    outputs, vocabulary = schema.outputs, schema.vocabulary
    if outputs > MAX_LAYER_WIDTH:
        raise InputError(f"{outputs} classes; a model has at most {MAX_LAYER_WIDTH} outputs")
    if vocabulary is None:
        return LogisticSpec(kind="logistic", outputs=outputs)
    width = max(1, min(_TOKEN_WIDTH, MAX_PARAMETERS // (2 * vocabulary)))
    return LayersSpec(
        kind="layers",
        layers=(
            Embedding(kind="embedding", vocabulary=vocabulary, width=width),
            Mean(kind="mean"),
            Linear(kind="linear", outputs=outputs),
        ),
        outputs=outputs,
    )


def _training(recipe: TrainingSection, schemas: Sequence[Schema]) -> TrainingSection:
    fitted = recipe.model_copy(update={"loss": _loss(schemas[0])})
    if schemas[0].dataset.unit is None:
        return fitted
    # A job may ask for fewer records of an entity than the schema allows it.
    allowed = [each.dataset.max_records_per_unit for each in schemas]
    return fitted.model_copy(update={"records_per_unit": min(*allowed, _MOST_RECORDS)})


def _loss(schema: Schema) -> LossName:
    match schema.task:
        case "binary":
            return "binary"
        case "classes":
            return "cross_entropy"
        case "number":
            return "squared"


def _optimizer(recipe: ServerOptimizer, schema: Schema) -> ServerOptimizer:
    if schema.task != "number":
        return recipe
    share = min(1.0, _FEATURES_OF_FULL_STEPS / schema.feature_count)
    return recipe.model_copy(update={"learning_rate": round(recipe.learning_rate * share, 3)})
