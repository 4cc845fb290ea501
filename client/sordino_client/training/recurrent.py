"""Recurrent layers as what they are: two linear layers a direction, used once a time step.

The fused kernels of torch hide the values between the time steps, which per-unit gradients need.
Here each step calls the same `nn.Linear` modules, which share the fused layer's parameters.
"""

import torch
from torch import Tensor, nn

from sordino_protocols.errors import InputError

State = tuple[Tensor, Tensor]


class UnrolledRecurrent(nn.Module):
    """An `nn.LSTM` or `nn.GRU` step by step, on [batch, time, features], from a state of zeros."""

    def __init__(self, fused: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.is_lstm = isinstance(fused, nn.LSTM)
        self.hidden_size = fused.hidden_size
        self.inputs = nn.ModuleList()
        self.hiddens = nn.ModuleList()
        for index in range(fused.num_layers):
            self.inputs.append(_linear(fused, f"ih_l{index}"))
            self.hiddens.append(_linear(fused, f"hh_l{index}"))

    def forward(self, sequence: Tensor) -> tuple[Tensor, Tensor | State]:
        """What the fused layer gives: all outputs, and the last state of every layer."""
        finals, cells = [], []
        for entering, recurrent in zip(self.inputs, self.hiddens, strict=True):
            steps = entering(sequence).unbind(dim=1)
            hidden = sequence.new_zeros(len(sequence), self.hidden_size)
            cell = hidden
            outputs = []
            for step in steps:
                if self.is_lstm:
                    hidden, cell = _lstm_step(step + recurrent(hidden), cell)
                else:
                    hidden = _gru_step(step, recurrent(hidden), hidden)
                outputs.append(hidden)
            sequence = torch.stack(outputs, dim=1)
            finals.append(hidden)
            cells.append(cell)
        last = torch.stack(finals)
        return sequence, (last, torch.stack(cells)) if self.is_lstm else last


def unroll(module: nn.Module) -> None:
    """Put `UnrolledRecurrent` in place of every LSTM and GRU inside `module`.

    Raises:
        InputError: such a layer is bidirectional, has dropout, a projection, or time first.
    """
    for name, owner in list(module.named_modules()):
        for child_name, child in list(owner.named_children()):
            if isinstance(child, nn.LSTM | nn.GRU):
                _check(child, f"{name}.{child_name}".lstrip("."))
                setattr(owner, child_name, UnrolledRecurrent(child))


def _check(fused: nn.LSTM | nn.GRU, name: str) -> None:
    if not fused.batch_first:
        raise InputError(f"layer {name}: records must come first; use batch_first=True")
    if fused.bidirectional or fused.dropout or fused.proj_size:
        raise InputError(
            f"layer {name}: bidirectional, dropout and proj_size are not supported; use two "
            f"layers, and drop nothing: the noise regularises"
        )


def _linear(fused: nn.LSTM | nn.GRU, suffix: str) -> nn.Linear:
    """A linear layer on the fused layer's own parameters."""
    weight = fused.get_parameter(f"weight_{suffix}")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=fused.bias, device="meta")
    linear.weight = weight
    if fused.bias:
        linear.bias = fused.get_parameter(f"bias_{suffix}")
    return linear


def _lstm_step(gates: Tensor, cell: Tensor) -> State:
    enter, forget, content, leave = gates.chunk(4, dim=1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(content)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def _gru_step(entering: Tensor, recurrent: Tensor, hidden: Tensor) -> Tensor:
    reset_in, update_in, content_in = entering.chunk(3, dim=1)
    reset_rec, update_rec, content_rec = recurrent.chunk(3, dim=1)
    content = torch.tanh(content_in + torch.sigmoid(reset_in + reset_rec) * content_rec)
    update = torch.sigmoid(update_in + update_rec)
    return content + update * (hidden - content)
