"""What is said of a model before it is paid for is what the engine does with it."""

import pytest
import torch
from hypothesis import given, settings
from model_stacks import SPECS, layers_spec, stacks

from sordino.architecture_table import rows, slow_bytes, slow_layers, slow_note
from sordino_client.training.losses import SquaredError
from sordino_client.training.network import Network
from sordino_protocols.graph import GraphSpec
from sordino_protocols.models import LayersSpec, ModelSpec, architecture_of
from sordino_protocols.networks import build

GROUPED: dict[str, object] = {"kind": "conv1d", "channels": 4, "kernel": 2, "groups": 2}
START: dict[str, object] = {"kind": "reshape", "shape": [4, 3]}
END: list[dict[str, object]] = [{"kind": "flatten"}, {"kind": "linear", "outputs": 1}]


def by_the_engine(spec: ModelSpec, feature_count: int) -> list[str]:
    """Paths of the steps whose layers the engine hands to Opacus."""
    network = Network(build(spec, feature_count), SquaredError(), torch.zeros(1, feature_count))
    steps = architecture_of(spec, feature_count).steps
    places = [
        int(next(part for part in n.split(".") if part.isdigit())) for n in network.slow_layers
    ]
    return [steps[place].path for place in places]


@settings(deadline=None, max_examples=40)
@given(drawn=stacks())
def test_names_the_layers_that_the_engine_has_no_rule_for(drawn: tuple[LayersSpec, int]) -> None:
    spec, feature_count = drawn
    assert list(slow_layers(spec)) == by_the_engine(spec, feature_count)


def test_looks_into_residual_blocks_and_graphs() -> None:
    plain: dict[str, object] = {"kind": "conv1d", "channels": 4, "kernel": 1}
    block: dict[str, object] = {
        "kind": "residual",
        "layers": [plain],
        "projection": [GROUPED | {"kernel": 1}],
    }
    spec = layers_spec([START, block, *END])
    assert slow_layers(spec) == ("layers[1].residual.projection[0].conv1d",)
    assert list(slow_layers(spec)) == by_the_engine(spec, 12)
    nodes = [
        {"name": "image", "inputs": ["features"], "operation": START},
        {"name": "conv", "inputs": ["image"], "operation": GROUPED},
        {"name": "flat", "inputs": ["conv"], "operation": END[0]},
        {"name": "end", "inputs": ["flat"], "operation": END[1]},
    ]
    graph = GraphSpec.model_validate({"kind": "graph", "nodes": nodes})
    assert slow_layers(graph) == ("nodes[1].conv1d (conv)",)
    assert list(slow_layers(graph)) == by_the_engine(graph, 12)


@pytest.mark.parametrize("kind", ["logistic", "cnn", "resnet"])
def test_the_named_models_have_rules_throughout(kind: str) -> None:
    spec = SPECS.validate_python({"kind": kind})
    assert slow_layers(spec) == ()
    assert slow_note(spec) is None


def test_says_what_a_slow_layer_costs() -> None:
    spec = layers_spec([START, GROUPED, *END])
    architecture = architecture_of(spec, 12)
    # Weight [4, 2, 2] and bias [4], four bytes each.
    assert slow_bytes(architecture) == 4 * (4 * 2 * 2 + 4)
    note = slow_note(spec)
    assert note is not None
    assert "layers[1].conv1d" in note
    assert "same guarantee" in note


def test_every_step_has_its_row() -> None:
    spec = layers_spec([START, GROUPED, *END])
    table = rows(architecture_of(spec, 12))
    assert [row["gives"] for row in table] == [[4, 3], [4, 2], [8], [1]]
    assert [row["parameters"] for row in table] == [0, 20, 0, 9]
    assert [row["gradients"] for row in table] == ["", "per record (Opacus)", "", "by rule"]
