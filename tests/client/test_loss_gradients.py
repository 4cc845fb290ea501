import numpy as np
import pytest
import torch
from torch import Tensor

from sordino_client.training import loss_gradients
from sordino_client.training.loss_gradients import at_outputs
from sordino_client.training.losses import BinaryLogistic, CrossEntropy, Loss, SquaredError

ROWS = 200
ODD = torch.tensor([float("nan"), float("inf"), -float("inf"), -1.0, 0.5, 7.0])


def by_autograd(
    loss: Loss, outputs: Tensor, labels: Tensor, shares: Tensor | None = None
) -> Tensor:
    leaf = outputs.clone().requires_grad_()
    losses = loss.per_record(leaf, labels)
    (gradients,) = torch.autograd.grad((losses if shares is None else losses * shares).sum(), leaf)
    return gradients


def made_up(loss: Loss, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Outputs from tiny to huge, and labels of which some make no sense."""
    generator = torch.Generator().manual_seed(1)
    width = 1 if isinstance(loss, BinaryLogistic) else 5
    outputs = torch.randn(ROWS, width, generator=generator, dtype=dtype)
    outputs *= torch.logspace(-3, 3, ROWS, dtype=dtype)[:, None]
    labels = torch.randint(0, max(2, width), (ROWS,), generator=generator).float()
    labels[: len(ODD)] = ODD
    return outputs, labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [BinaryLogistic(), CrossEntropy(), SquaredError()])
def test_they_are_those_of_autograd(loss: Loss, dtype: torch.dtype) -> None:
    outputs, labels = made_up(loss, dtype)
    shares = torch.linspace(0, 1, ROWS, dtype=torch.float64)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for weighted in (None, shares):
        told = at_outputs(loss, outputs, labels, shares=weighted)
        assert told.dtype == dtype
        expected = by_autograd(loss, outputs, labels, weighted)
        assert torch.allclose(told, expected, rtol=tolerance, atol=tolerance)


def test_several_numbers_a_row_are_each_compared_with_their_own() -> None:
    outputs, labels = torch.randn(4, 3), torch.randn(4, 3)
    labels[2, 1] = torch.nan
    told = at_outputs(SquaredError(), outputs, labels)
    assert torch.allclose(told, by_autograd(SquaredError(), outputs, labels))
    assert not told[2].any()


@pytest.mark.parametrize("label", ODD.tolist())
@pytest.mark.parametrize("loss", [BinaryLogistic(), CrossEntropy()])
def test_a_label_that_is_no_class_gives_exactly_nothing(loss: Loss, label: float) -> None:
    outputs = torch.tensor([[1.5]] if isinstance(loss, BinaryLogistic) else [[1.5, -2.0, 0.1]])
    assert not at_outputs(loss, outputs, torch.tensor([label])).any()


def test_outputs_and_labels_stay_as_they_are() -> None:
    for loss in (BinaryLogistic(), CrossEntropy(), SquaredError()):
        outputs, labels = made_up(loss, torch.float64)
        before = outputs.clone(), labels.clone()
        at_outputs(loss, outputs, labels)
        assert torch.equal(outputs, before[0])
        assert np.array_equal(labels.numpy(), before[1].numpy(), equal_nan=True)


def test_a_gradient_without_its_label_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_gradients, "_logistic", lambda outputs, _labels: outputs.sigmoid())
    with pytest.raises(AssertionError):
        test_they_are_those_of_autograd(BinaryLogistic(), torch.float64)
