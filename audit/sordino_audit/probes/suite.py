"""All probes of a trainer, on cases in which every clipping rule and kind of unit occurs.

`run_probes` takes the product's trainer or any other. Every probe runs on every case, but for the
random ones, which say the same in all of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sordino_audit.findings import ProbeOutcome
from sordino_audit.probes import accounting, fields, randomness, replay
from sordino_audit.probes.found import Found
from sordino_audit.probes.trainer import Case, Trainer
from sordino_client.training.arithmetic import Performance
from sordino_protocols.clipping import AdaptiveClipping, NormalizedClipping, PerLayerClipping
from sordino_protocols.layers import LayersSpec
from sordino_protocols.local_training import LocalSgd
from sordino_protocols.models import MlpSpec, ModelSpec, parameter_groups
from sordino_protocols.plan import TrainingPlan

Probe = Callable[[Trainer, Case], Found | None]
"""None where there is nothing to look at in that case."""

EXACT: Mapping[str, Probe] = {
    "fields of a release": fields.release_fields,
    "sensitivity": replay.sensitivity,
    "sensitivity of each layer": replay.layer_sensitivity,
    "canary": replay.canary,
    "size of the data set": replay.absent_units,
    "record without a gradient": replay.empty_record,
    "noise on every coordinate": replay.exact_noise,
    "noise of every step": replay.exact_steps,
    "coins as charged": accounting.charged,
    "grid": randomness.grid,
}
"""Probes that replay all randomness and never raise a false alarm."""

RANDOM: Mapping[str, Probe] = {
    "scale of secret noise": randomness.noise_scale,
    "secret noise with units": randomness.noise_with_units,
    "fresh noise": randomness.freshness,
    "sampling": randomness.sampling,
    "scale and number of units": randomness.unit_count,
}
"""Probes of secret noise and coins; each fails on correct code once in a million at most."""

_PLAN = TrainingPlan(
    sampling_rate=0.5,
    noise_multiplier=2.0,
    clipping_norm=0.7,
    rounds=3,
    local_steps=1,
    local_learning_rate=0.1,
    lanes=4,
)
_NETWORK = MlpSpec(kind="mlp", hidden=(5, 4), activation="tanh")
_IMAGES = LayersSpec.model_validate_json(
    """{"kind": "layers", "layers": [
        {"kind": "reshape", "shape": [1, 6, 6]},
        {"kind": "conv2d", "channels": 4, "kernel": [3, 3]},
        {"kind": "group_norm", "groups": 2},
        {"kind": "activation", "function": "relu"},
        {"kind": "flatten"},
        {"kind": "linear", "outputs": 1}
    ]}"""
)


def default_cases(performance: Performance) -> tuple[Case, ...]:
    """A few cases in which every rule and every kind of unit occurs.

    Args:
        performance: of the site.
    """
    by_layer = PerLayerClipping(kind="per_layer")
    adaptive = AdaptiveClipping(kind="adaptive")
    momentum = LocalSgd(kind="sgd", momentum=0.9)
    normalized = NormalizedClipping(kind="normalized")
    single = replace(performance, precision="single")
    return (
        _case("a small network", _NETWORK, _PLAN, performance),
        _case("clipped by layers", _NETWORK, replace(_PLAN, clipping=by_layer), performance),
        _case("adaptive clipping", _NETWORK, replace(_PLAN, clipping=adaptive), performance),
        _case(
            "a delta of entities",
            _NETWORK,
            replace(
                _PLAN,
                update="delta",
                local_steps=3,
                local_optimizer=momentum,
                unit="entity",
                records_per_unit=2,
            ),
            performance,
        ),
        _case("images in single precision", _IMAGES, replace(_PLAN, clipping=normalized), single),
    )


def run_probes(trainer: Trainer, *, cases: Sequence[Case] | None = None) -> list[ProbeOutcome]:
    """Probe a trainer.

    Args:
        trainer: what is probed: `trainer.engine` is the product's.
        cases: on what; by default those of `default_cases` as the product computes by default.

    Returns:
        One outcome a probe and case, but for probes that have nothing to look at in a case.
    """
    chosen = default_cases(Performance()) if cases is None else cases
    return list(probe_one_by_one(trainer, chosen))


def probe_one_by_one(trainer: Trainer, cases: Sequence[Case]) -> Iterator[ProbeOutcome]:
    """The outcomes of `run_probes`, each as soon as it is there.

    Where a release does not even have its declared fields, nothing else of that case is read.
    """
    for number, case in enumerate(cases):
        probes = EXACT if number else {**EXACT, **RANDOM}
        for name, probe in probes.items():
            outcomes = observe(f"{name}: {case.name}", partial(probe, trainer, case))
            yield from outcomes
            if probe is fields.release_fields and not outcomes[0].is_passed:
                break


def observe(name: str, probe: Callable[[], Found | None]) -> tuple[ProbeOutcome, ...]:
    """Run one probe: its outcome, named and timed in CPU seconds, or nothing."""
    started = time.process_time()
    found = probe()
    if found is None:
        return ()
    seconds = time.process_time() - started
    return (ProbeOutcome(name, found.is_passed, found.message, seconds),)


def _case(name: str, model: ModelSpec, plan: TrainingPlan, performance: Performance) -> Case:
    plan = replace(plan, lane_groups=parameter_groups(model))
    return Case(name, model, plan, performance, seed=3)
