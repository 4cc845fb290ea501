import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shadow_training
import torch
from shadow_training import KILLED_AFTER, PLAN, RECORDS, made_up
from statistical import assert_rate

from sordino_audit.attacks.shadow_networks import Shape, Stack, draw_batches, draw_weights
from sordino_audit.attacks.shadows import (
    LARGEST_STACK,
    ShadowRecords,
    balanced_membership,
    shadow_logits,
    stacks_of,
    train_shadows,
)
from sordino_protocols.errors import InputError, IntegrityError

# -------------------------------------------------------------------------------------- the design


def test_each_target_is_in_half_of_the_shadows_and_in_one_of_each_pair() -> None:
    membership = balanced_membership(10, 300, rng=np.random.default_rng(1))
    assert np.all(membership.sum(axis=0) == 5)
    assert np.all(membership[::2] != membership[1::2])
    assert_rate(int(membership[::2].sum()), 1500, 0.5)
    # Pairs are independent of each other.
    assert_rate(int((membership[0] == membership[2]).sum()), 300, 0.5)


def test_the_last_of_an_odd_number_has_its_own_coins() -> None:
    membership = balanced_membership(3, 300, rng=np.random.default_rng(2))
    assert membership.shape == (3, 300)
    assert_rate(int((membership[2] == membership[0]).sum()), 300, 0.5)


def test_every_record_is_used_once_before_any_is_used_again() -> None:
    rows = np.array([2, 3, 5, 7, 11])
    batches = draw_batches(rows, steps=6, batch_size=4, rng=np.random.default_rng(3))
    assert batches.shape == (6, 4)
    for start in range(0, 20, 5):
        assert sorted(batches.ravel()[start : start + 5]) == rows.tolist()


# ------------------------------------------------------------------------------------ the training


def test_gradients_are_those_of_torch_for_each_network_alone() -> None:
    shape = Shape((5, 7, 6, 3))
    rng = np.random.default_rng(4)
    weights = torch.from_numpy(np.stack([draw_weights(shape, rng) for _ in range(4)]))
    features = torch.from_numpy(rng.normal(size=(4, 10, 5)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, (4, 10)))
    stack = Stack(shape, weights)
    stack.set_gradient(features, torch.nn.functional.one_hot(labels, 3).float())
    assert weights.grad is not None
    for network in range(4):
        module = _module(shape, weights[network])
        outputs = module(features[network])
        torch.testing.assert_close(outputs, stack.outputs(features)[network])
        loss = torch.nn.functional.cross_entropy(outputs, labels[network])
        of_weights = torch.autograd.grad(loss, list(module.parameters()))
        parts = [each.mT.ravel() if each.ndim == 2 else each for each in of_weights]
        torch.testing.assert_close(weights.grad[network], torch.cat(parts))


def _module(shape: Shape, flat: torch.Tensor) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    start = 0
    for inputs, outputs in shape.layers:
        layer = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            stop = start + inputs * outputs
            layer.weight.copy_(flat[start:stop].view(inputs, outputs).mT)
            layer.bias.copy_(flat[stop : stop + outputs])
        start = stop + outputs
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def test_shadows_know_their_members_by_heart(tmp_path: Path) -> None:
    records = made_up()
    weights = train_shadows(PLAN, records, directory=tmp_path)
    logits = shadow_logits(PLAN, weights, records.features)
    assert logits.shape == (PLAN.shadows, RECORDS, PLAN.classes)
    right = logits.argmax(axis=-1) == records.labels
    assert right[records.membership].mean() > 0.95
    assert right[~records.membership].mean() < 0.6


# ------------------------------------------------------------------------------ stacks and resuming


def test_stacks_follow_from_the_networks_size_alone() -> None:
    small, large = Shape((30, 32, 2)), Shape((446, 128, 30))
    assert small.parameters == 30 * 32 + 32 + 32 * 2 + 2
    assert [len(each) for each in stacks_of(PLAN, small)] == [16, 16, 8]
    assert {len(each) for each in stacks_of(PLAN, large)} == {4}
    assert [len(each) for each in stacks_of(PLAN, Shape((10_000, 100, 2)))] == [1] * 40


@pytest.mark.system
def test_a_killed_run_goes_on_bit_identical(tmp_path: Path) -> None:
    whole = train_shadows(PLAN, made_up(), directory=tmp_path / "whole")
    killed = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, shadow_training.__file__, str(killed)], check=False, timeout=300
    )
    assert done.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("stack-*")}
    assert len(kept) == KILLED_AFTER + 1
    trained: list[int] = []
    resumed = train_shadows(PLAN, made_up(), directory=killed, on_stack=trained.append)
    assert trained == [2]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    np.testing.assert_array_equal(resumed, whole)


@pytest.mark.system
def test_workers_do_not_change_the_shadows(tmp_path: Path) -> None:
    alone = train_shadows(PLAN, made_up(), directory=tmp_path / "alone")
    shared = train_shadows(PLAN, made_up(), directory=tmp_path / "shared", workers=2)
    np.testing.assert_array_equal(shared, alone)


def test_an_interrupted_run_trains_what_is_missing_only(tmp_path: Path) -> None:
    whole = train_shadows(PLAN, made_up(), directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_shadows(PLAN, made_up(), directory=tmp_path / "stopped", on_stack=_interrupt)
    trained: list[int] = []
    resumed = train_shadows(
        PLAN, made_up(), directory=tmp_path / "stopped", on_stack=trained.append
    )
    assert trained == [1, 2]
    np.testing.assert_array_equal(resumed, whole)


def _interrupt(stack: int) -> None:
    del stack
    raise KeyboardInterrupt


def test_a_shadow_is_that_of_its_seed_and_index(tmp_path: Path) -> None:
    records = made_up()
    first = train_shadows(PLAN, records, directory=tmp_path / "first")
    assert len(np.unique(first, axis=0)) == PLAN.shadows
    fewer = replace(PLAN, shadows=LARGEST_STACK)
    less = ShadowRecords(records.features, records.labels, records.membership[:LARGEST_STACK])
    some = train_shadows(fewer, less, directory=tmp_path / "some")
    np.testing.assert_array_equal(some, first[:LARGEST_STACK])
    other = train_shadows(replace(fewer, seed=4), less, directory=tmp_path / "other")
    assert not np.any(np.all(other == some, axis=1))


def test_a_directory_holds_the_shadows_of_one_plan_and_data_set(tmp_path: Path) -> None:
    records = made_up()
    train_shadows(PLAN, records, directory=tmp_path)
    with pytest.raises(InputError, match="another plan"):
        train_shadows(replace(PLAN, seed=4), records, directory=tmp_path)
    changed = records.features.copy()
    changed[0, 0] += 1
    other = ShadowRecords(changed, records.labels, records.membership)
    with pytest.raises(InputError, match="other records"):
        train_shadows(PLAN, other, directory=tmp_path)


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    train_shadows(PLAN, made_up(), directory=tmp_path)
    (tmp_path / "stack-00001.safetensors").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match="stack-00001"):
        train_shadows(PLAN, made_up(), directory=tmp_path)


def test_refuses_records_that_no_shadow_can_learn() -> None:
    records = made_up()
    nobody = records.membership.copy()
    nobody[3] = False
    with pytest.raises(ValueError, match="a member in each shadow"):
        ShadowRecords(records.features, records.labels, nobody)
    with pytest.raises(ValueError, match="records, width"):
        ShadowRecords(records.features[0], records.labels, records.membership)
    with pytest.raises(ValueError, match="widths"):
        Shape((4,))


def test_refuses_a_plan_that_is_of_others(tmp_path: Path) -> None:
    records = made_up()
    with pytest.raises(ValueError, match="not 39"):
        train_shadows(replace(PLAN, shadows=39), records, directory=tmp_path)
    with pytest.raises(ValueError, match="outside the 2 classes"):
        train_shadows(replace(PLAN, classes=2), records, directory=tmp_path)
    assert not list(tmp_path.iterdir())
