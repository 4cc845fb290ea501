import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from model_stacks import SPECS, stacks
from torch import Tensor, nn
from torch.nn import functional

from sordino.tracing import (
    TracedModel,
    load_weights,
    spec_from_module,
    trace,
    weights_from_module,
)
from sordino_protocols.errors import InputError
from sordino_protocols.models import LayersSpec, ModelSpec, ResnetSpec, TransformerSpec
from sordino_protocols.networks import build, flatten, load_flat

Forward = Callable[["Written", Tensor], Tensor]


class Written(nn.Module):
    """A module with the layers and the forward pass that a test gives it."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.given = forward
        self.a = layers.get("a", nn.Linear(4, 4))
        self.out = layers.get("out", nn.Linear(4, 1))

    def forward(self, records: Tensor) -> Tensor:
        return self.given(self, records)


class Block(nn.Module):
    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding="same")
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(entering, leaving, 1, stride)

    def forward(self, values: Tensor) -> Tensor:
        long = self.second(functional.relu(self.norm(self.first(values))))
        long += self.short(values)
        return functional.relu(long)


class SmallResnet(nn.Module):
    """Registers its head before its body: the order of calls is not that of the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 10)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), Block(8, 8, 1), Block(8, 16, 2))

    def forward(self, image: Tensor) -> Tensor:
        places = functional.adaptive_avg_pool2d(self.body(image), 1)
        scores: Tensor = self.head(places.view(places.size(0), -1))
        return scores


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.share, self.fused = heads, width // heads, fused
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, values: Tensor) -> Tensor:
        batch, steps, width = values.shape
        normed = self.norm(values)
        query, key, value = (
            layer(normed).view(batch, steps, self.heads, self.share).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if self.fused:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) / self.share**0.5
            mixed = torch.softmax(scores, dim=-1) @ value
        joined: Tensor = self.output(mixed.transpose(1, 2).contiguous().view(batch, steps, width))
        return values + joined


class SmallTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(30, 8), nn.Embedding(7, 8)
        self.blocks = nn.ModuleList([Attention(8, 2, fused=True), Attention(8, 4, fused=False)])
        self.head = nn.Linear(8, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.size(1), device=tokens.device).unsqueeze(0)
        values = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            values = block(values)
        logits: Tensor = self.head(values.mean(dim=1))
        return logits.squeeze(-1)


class Recurrent(nn.Module):
    def __init__(self, layer: nn.LSTM | nn.GRU, take: str) -> None:
        super().__init__()
        self.layer, self.take, self.head = layer, take, nn.Linear(5, 2)

    def forward(self, sequence: Tensor) -> Tensor:
        states, last = self.layer(sequence)
        if self.take == "hidden":
            last = last[0] if isinstance(self.layer, nn.LSTM) else last
        taken = {"last": lambda: states[:, -1], "mean": lambda: states.mean(1)}
        scores: Tensor = self.head(last[-1] if self.take == "hidden" else taken[self.take]())
        return scores


def lstm() -> nn.LSTM:
    return nn.LSTM(3, 5, 2, batch_first=True)


def gru() -> nn.GRU:
    return nn.GRU(3, 5, batch_first=True)


IMAGE, TOKENS, SERIES, FLAT = (
    torch.randn(2, 3, 12, 12),
    torch.randint(0, 30, (2, 7)),
    torch.randn(2, 4, 3),
    torch.randn(2, 4),
)
ARCHITECTURES: list[tuple[str, nn.Module, Tensor]] = [
    ("resnet", SmallResnet(), IMAGE),
    ("transformer", SmallTransformer(), TOKENS),
    *((f"lstm-{take}", Recurrent(lstm(), take), SERIES) for take in ("last", "hidden", "mean")),
    *((f"gru-{take}", Recurrent(gru(), take), SERIES) for take in ("last", "hidden", "mean")),
    (
        "conv1d",
        nn.Sequential(
            nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
            nn.ELU(),
            nn.AvgPool1d(2, padding=1),
            nn.MaxPool1d(2, stride=1),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        torch.randn(2, 4, 11),
    ),
    (
        "functions",
        Written(
            lambda m, x: m.out(
                torch.cat([torch.tanh(m.a(x)) * torch.sigmoid(x), -x / 2], dim=1)
                - 3 * torch.cat([x, x], 1).view(-1, 2, 4).permute(0, 2, 1).flatten(1)
            ).sum(1, keepdim=True),
            out=nn.Linear(8, 2),
        ),
        FLAT,
    ),
    ("gelu", Written(lambda m, x: m.out(functional.gelu(m.a(x), approximate="tanh"))), FLAT),
    ("in-place", Written(lambda m, x: m.out(functional.relu(m.a(x), inplace=True))), FLAT),
    ("one-number", Written(lambda m, x: m.out(m.a(x))[:, 0]), FLAT),
    ("no-dropout", nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0), nn.Linear(3, 1)), FLAT),
]
for _, lazy, example in ARCHITECTURES:
    lazy(example)


def rebuilt(traced: TracedModel, feature_count: int) -> nn.Module:
    module = build(traced.spec, feature_count)
    load_flat(module, traced.weights)
    return module


@pytest.mark.parametrize(
    ("module", "example"),
    [pytest.param(module, example, id=name) for name, module, example in ARCHITECTURES],
)
def test_the_rebuilt_module_gives_the_same_outputs(module: nn.Module, example: Tensor) -> None:
    traced = trace(module, example)
    # What travels is the JSON.
    assert SPECS.validate_json(SPECS.dump_json(traced.spec)) == traced.spec
    records = torch.cat([example.flip(0), example])
    with torch.no_grad():
        expected = module(records).reshape(len(records), -1).double()
        flat = records.reshape(len(records), -1).double()
        assert torch.allclose(rebuilt(traced, flat.shape[1])(flat), expected, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(drawn=stacks())
def test_tracing_what_a_spec_builds_gives_an_equal_model(drawn: tuple[LayersSpec, int]) -> None:
    spec, feature_count = drawn
    check_traced_build(spec, feature_count)


@pytest.mark.parametrize(
    ("spec", "feature_count"),
    [
        (ResnetSpec(kind="resnet", image=(3, 8, 8)), 192),
        (
            TransformerSpec.model_validate(
                {
                    "kind": "transformer",
                    "input": {"kind": "series", "steps": 5, "channels": 2},
                    "width": 8,
                    "heads": 2,
                    "blocks": 2,
                    "hidden": 8,
                }
            ),
            10,
        ),
    ],
)
def test_tracing_what_a_preset_builds_gives_an_equal_model(
    spec: ModelSpec, feature_count: int
) -> None:
    check_traced_build(spec, feature_count)


def check_traced_build(spec: ModelSpec, feature_count: int) -> None:
    module = build(spec, feature_count)
    size = sum(parameter.numel() for parameter in module.parameters())
    load_flat(module, np.random.default_rng(0).standard_normal(size) / 2)
    records = torch.from_numpy(np.random.default_rng(1).standard_normal((3, feature_count)))
    traced = trace(module, records)
    assert np.array_equal(traced.weights, flatten(module))
    assert torch.allclose(rebuilt(traced, feature_count)(records), module(records))


def test_trained_weights_go_back_into_the_module() -> None:
    module = SmallResnet()
    traced = trace(module, IMAGE)
    assert traced.parameter_names[0] == "body.0.weight"
    assert np.array_equal(weights_from_module(module, IMAGE), traced.weights)
    trained = traced.weights + 0.01
    other = SmallResnet()
    load_weights(other, traced, trained)
    network = build(spec_from_module(module, IMAGE), 432)
    load_flat(network, trained)
    with torch.no_grad():
        expected = network(IMAGE.reshape(2, -1).double())
        assert torch.allclose(other(IMAGE).double(), expected, atol=1e-4)
    with pytest.raises(ValueError, match="the module holds"):
        load_weights(other, traced, trained[1:])


def test_tracing_leaves_the_module_and_torchs_generator_alone() -> None:
    module = SmallResnet()
    before = [parameter.clone() for parameter in module.parameters()]
    state = torch.random.get_rng_state()
    trace(module, IMAGE)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(itertools.starmap(torch.equal, zip(before, module.parameters(), strict=True)))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_context: object, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        return gradient


class OwnLinear(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight * 2)


def doubled(values: Tensor) -> Tensor:
    result: Tensor = Doubled.apply(values)  # type: ignore[no-untyped-call]
    return result


def branching(module: Written, records: Tensor) -> Tensor:
    result: Tensor = module.out(records if records.sum() > 0 else -records)
    return result


def looping(module: Written, records: Tensor) -> Tensor:
    for _ in range(records.shape[0]):
        records = module.a(records)
    result: Tensor = module.out(records)
    return result


def without_gradient(module: Written, records: Tensor) -> Tensor:
    with torch.no_grad():
        entering = module.a(records)
    result: Tensor = module.out(entering)
    return result


def sequential(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1))


def convolving(layer: nn.Module) -> nn.Module:
    return Written(lambda m, x: m.a(x.view(-1, 1, 4)).flatten(1)[:, 0], a=layer, out=nn.Identity())


def recurrent(layer: nn.Module) -> nn.Module:
    return Written(lambda m, x: m.out(m.a(x.view(-1, 2, 2))[0][:, -1]), a=layer)


def hooked() -> nn.Module:
    module = sequential(nn.Tanh())
    module.register_forward_hook(lambda _m, _i, output: output * 2)
    return module


def buffered() -> nn.Module:
    module = sequential(nn.Tanh())
    module.register_buffer("mean_of_records", torch.zeros(4))
    return module


def frozen() -> nn.Module:
    module = sequential(nn.Tanh())
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module


def tied() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second, nn.Linear(4, 1))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 1), nn.Parameter(torch.ones(4))

    def forward(self, records: Tensor) -> Tensor:
        result: Tensor = self.layer(records * self.scale)
        return result


REFUSED: list[tuple[str, nn.Module, str]] = [
    ("batch-norm", sequential(nn.BatchNorm1d(4)), r"^1: nn.BatchNorm1d .*mixes.*nn.GroupNorm"),
    ("instance-norm", convolving(nn.InstanceNorm1d(1)), r"^a: nn.InstanceNorm1d .*nn.GroupNorm"),
    ("dropout", sequential(nn.Dropout(0.1)), r"^1: nn.Dropout .*remove it"),
    ("prelu", sequential(nn.PReLU()), r"^1: nn.PReLU .*use nn.ReLU"),
    ("softplus", sequential(nn.Softplus()), r"^1: nn.Softplus is not allowed: allowed are"),
    ("dilation", convolving(nn.Conv1d(1, 1, 2, dilation=2)), r"^a \(.*only dilation = 1"),
    (
        "padding-mode",
        convolving(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")),
        "only padding_mode",
    ),
    ("kernel", convolving(nn.Conv1d(1, 1, 70, padding=40)), "kernel: .*less than or equal to 64"),
    ("ceil", convolving(nn.MaxPool1d(3, ceil_mode=True)), "only ceil_mode = False"),
    ("alpha", sequential(nn.ELU(alpha=0.5)), "only alpha = 1"),
    ("time-first", recurrent(nn.LSTM(2, 4)), r"^a \(.*only batch_first = True"),
    (
        "bidirectional",
        recurrent(nn.GRU(2, 2, batch_first=True, bidirectional=True)),
        "only bidirectional = False",
    ),
    (
        "cell-state",
        Written(
            lambda m, x: m.out(m.a(x.view(-1, 2, 2))[1][1][-1]), a=nn.LSTM(2, 4, batch_first=True)
        ),
        r"inner state .*use out\[:, -1\]",
    ),
    (
        "attention-layer",
        Written(
            lambda m, x: m.out(m.a(x[:, None], x[:, None], x[:, None])[0][:, 0]),
            a=nn.MultiheadAttention(4, 1, batch_first=True),
        ),
        "^a: nn.MultiheadAttention .*scaled_dot_product_attention",
    ),
    ("own-layer", nn.Sequential(OwnLinear(4, 1, bias=False)), r"0.weight is used outside"),
    ("own-parameter", Scaled(), r"scale is used outside of a layer"),
    ("buffer", buffered(), "^mean_of_records: a buffer is not allowed"),
    ("frozen", frozen(), r"^0.weight: is frozen"),
    ("tied", tied(), r"^1.weight: shares its weights with 0.weight"),
    (
        "twice",
        Written(lambda m, x: m.out(m.a(m.a(x)))),
        r"^a \(test_tracing.py:\d+\): is used twice",
    ),
    ("unused", Written(lambda m, x: m.out(x)), "^a.weight: does not reach the output"),
    ("branch", Written(branching), r"^test_tracing.py:\d+: depends on the values"),
    ("loop", Written(looping), r"^test_tracing.py:\d+: depends on the values"),
    (
        "numpy",
        Written(lambda m, x: m.out(torch.tensor(x.detach().numpy()))),
        "depends on the values",
    ),
    ("autograd", Written(lambda m, x: m.out(m.a(doubled(x)))), "^Doubled: a custom autograd"),
    ("no-grad", Written(without_gradient), "other outputs or gradients"),
    ("hook", hooked(), "other outputs or gradients"),
    ("detach", Written(lambda m, x: m.out(m.a(x).detach())), "detach is not allowed"),
    (
        "functional-dropout",
        Written(lambda m, x: m.out(functional.dropout(m.a(x)))),
        r"^the module \(test_tracing.py:\d+\): dropout is not allowed: its masks",
    ),
    ("function", Written(lambda m, x: m.out(m.a(x).exp())), "exp is not allowed"),
    ("constant", Written(lambda m, x: m.out(m.a(x) + 1)), "a layer's bias can do it"),
    ("tensor", Written(lambda m, x: m.out(m.a(x) + torch.ones(4))), "no record has a part"),
    ("random", Written(lambda m, x: m.out(m.a(x) * torch.rand(4))), "no record has a part"),
    ("centred", Written(lambda m, x: m.out(m.a(x) - x.mean(0))), "batch axis"),
    ("mean", Written(lambda m, x: m.out(m.a(x) * x.mean())), "batch axis"),
    ("softmax", Written(lambda m, x: m.out(m.a(x).softmax(0))), "batch axis, which mixes"),
    ("first", Written(lambda m, x: m.out(m.a(x) - x[0])), "leave the batch axis whole|batch axis"),
    ("gram", Written(lambda m, x: m.out(m.a(x) @ x.T @ x)), "batch axis"),
    ("aligned", Written(lambda m, x: m.out(m.a(x)[:, None] + x).mean(1)), "depends on the batch"),
    ("batch-size", Written(lambda m, x: m.out(m.a(x) * x.shape[0])), "a constant number"),
    (
        "folded",
        Written(lambda m, x: m.out(m.a(x).view(-1, 2, 2).transpose(0, 1).reshape(-1, 4))),
        "batch axis",
    ),
    ("list", nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 1, batch_first=True)), "gives a tuple"),
    ("single", nn.Linear(4, 1), r"wrap it: nn.Sequential"),
    ("large", sequential(nn.Linear(4, 5000)), "does not run on"),
    ("wide", nn.Sequential(nn.Linear(4, 5000), nn.Linear(5000, 1)), "outputs: .*4096"),
    ("two-axes", nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2))), r"ends with \[2, 2\]"),
]


@pytest.mark.parametrize(
    ("module", "message"),
    [pytest.param(module, message, id=name) for name, module, message in REFUSED],
)
def test_refuses_by_name_what_cannot_travel(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(module, FLAT)


def test_refuses_an_example_without_a_batch() -> None:
    with pytest.raises(InputError, match=r"shape \[4\]; expected \[batch, ...\]"):
        trace(sequential(nn.Tanh()), torch.zeros(4))
