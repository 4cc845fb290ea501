"""How every benchmark reports: figures with bars, and the context that they were measured in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

Context = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, with the unit where it has one.
        value: the number.
        bar: what it must reach, or None when it is there for comparison.
        is_upper_bar: whether the value must stay below the bar rather than reach it.
    """

    name: str
    value: float
    bar: float | None = None
    is_upper_bar: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the bar is cleared; None without a bar."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.is_upper_bar else self.value >= self.bar


def report(figures: Sequence[Figure], context: Context, *, as_json: bool) -> int:
    """Print the figures and their context.

    Returns:
        Exit code: 0 when every bar holds, else 1.
    """
    if as_json:
        print(json.dumps(to_json(figures, context), indent=2))
    else:
        print(to_table(figures, context))
    return int(any(figure.holds is False for figure in figures))


def to_json(figures: Sequence[Figure], context: Context) -> dict[str, object]:
    """The machine-readable form."""
    return {
        "figures": [{**asdict(figure), "holds": figure.holds} for figure in figures],
        "context": dict(context),
    }


def to_table(figures: Sequence[Figure], context: Context) -> str:
    """The form for people: one figure a line, then the context."""
    width = max(len(figure.name) for figure in figures)
    lines = [_line(figure, width) for figure in figures]
    return "\n".join([*lines, "", *(f"{key}: {value}" for key, value in context.items())])


def _line(figure: Figure, width: int) -> str:
    start = f"{figure.name:<{width}}  {figure.value:10.4f}"
    if figure.bar is None:
        return start
    sign = "<=" if figure.is_upper_bar else ">="
    return f"{start}  {sign} {figure.bar:.4g}  {'holds' if figure.holds else 'MISSED'}"
