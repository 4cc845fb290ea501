"""Lines over time as SVG, for pictures of dashboards: round axes, areas, thresholds."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Point = tuple[float, float]
_LEFT, _BOTTOM, _TOP = 58.0, 18.0, 8.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its colour.

    Attributes:
        points: time and value, by time.
        floor: what its area begins at, at each of the points; empty for 0.
        color: of line and area.
    """

    points: tuple[Point, ...]
    color: str
    floor: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """What all lines of a chart share.

    Attributes:
        begin: Unix time at the left edge.
        end: at the right edge.
        gap: seconds without a point that a line bridges: a busy host misses a scrape.
        width: in pixels.
        height: in pixels.
        opacity: of areas.
        is_whole: values are whole numbers, and so are those of the axis.
        spell: a value of the axis in words.
        limits: value and colour of each threshold that is drawn.
        least_top: the axis reaches at least up to there.
    """

    begin: float
    end: float
    gap: float
    width: float
    height: float
    opacity: float
    is_whole: bool
    spell: Callable[[float], str]
    limits: tuple[tuple[float, str], ...]
    least_top: float


def chart(lines: Sequence[Line], frame: Frame) -> str:
    """The chart as one SVG element."""
    values = [value for line in lines for _, value in line.points]
    ticks = round_ticks(max([*values, frame.least_top, 0.0]), is_whole=frame.is_whole)
    plane = _Plane(frame, ticks[-1])
    parts = [plane.tick(value) for value in ticks]
    parts += [plane.moment(share / 5) for share in range(5)]
    parts += [plane.limit(value, color) for value, color in frame.limits if value <= ticks[-1]]
    parts += [plane.piece(piece) for line in lines for piece in _pieces(line, frame.gap)]
    return f"<svg width='{frame.width:.0f}' height='{frame.height:.0f}'>{''.join(parts)}</svg>"


def stacked(lines: Sequence[Line]) -> list[Line]:
    """Each line on those before it, where they have a value at the time."""
    heights: dict[float, float] = {}
    piled = []
    for line in lines:
        floor = tuple(heights.get(when, 0.0) for when, _ in line.points)
        points = tuple(
            (when, value + below) for (when, value), below in zip(line.points, floor, strict=True)
        )
        heights |= dict(points)
        piled.append(replace(line, points=points, floor=floor))
    return piled


def round_ticks(most: float, *, is_whole: bool) -> list[float]:
    """Values from 0 to `most` or just above it, a round number apart."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(each * scale for each in _STEPS if each * scale >= rough * (1 - 1e-9))
    if is_whole:
        step = float(max(1, math.ceil(step)))
    return [number * step for number in range(math.ceil(most / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Plane:
    frame: Frame
    top: float

    def tick(self, value: float) -> str:
        y = self._up(value)
        return (
            f"<line x1='{_LEFT}' x2='{self.frame.width}' y1='{y:.1f}' y2='{y:.1f}'"
            f" stroke='#25282d'/><text x='{_LEFT - 8}' y='{y + 3.5:.1f}' text-anchor='end'>"
            f"{self.frame.spell(value)}</text>"
        )

    def moment(self, share: float) -> str:
        when = self.frame.begin + share * (self.frame.end - self.frame.begin)
        label = time.strftime("%H:%M:%S", time.gmtime(when))
        return f"<text x='{self._across(when):.0f}' y='{self.frame.height - 2}'>{label}</text>"

    def limit(self, value: float, color: str) -> str:
        y = self._up(value)
        return (
            f"<line x1='{_LEFT}' x2='{self.frame.width}' y1='{y:.1f}' y2='{y:.1f}'"
            f" stroke='{color}' stroke-dasharray='6 4'/>"
        )

    def piece(self, line: Line) -> str:
        floor = line.floor or (0.0,) * len(line.points)
        upper = [self._at(when, value) for when, value in line.points]
        lower = [self._at(when, below) for (when, _), below in zip(line.points, floor, strict=True)]
        area = " ".join([*upper, *reversed(lower)])
        return (
            f"<polygon points='{area}' fill='{line.color}' opacity='{self.frame.opacity}'/>"
            f"<polyline points='{' '.join(upper)}' fill='none' stroke='{line.color}'"
            " stroke-width='2' stroke-linecap='round'/>"
        )

    def _at(self, when: float, value: float) -> str:
        return f"{self._across(when):.1f},{self._up(value):.1f}"

    def _across(self, when: float) -> float:
        share = (when - self.frame.begin) / (self.frame.end - self.frame.begin)
        return _LEFT + share * (self.frame.width - _LEFT - 2)

    def _up(self, value: float) -> float:
        return self.frame.height - _BOTTOM - value / self.top * (self.frame.height - _BOTTOM - _TOP)


def _pieces(line: Line, gap: float) -> list[Line]:
    """A line where it has values: what was not there is no straight line."""
    if not line.points:
        return []
    breaks = [
        number
        for number, ((before, _), (after, _)) in enumerate(pairwise(line.points), start=1)
        if after - before > gap
    ]
    edges = [0, *breaks, len(line.points)]
    return [
        replace(line, points=line.points[begin:end], floor=line.floor[begin:end])
        for begin, end in pairwise(edges)
    ]
