"""A dashboard as a page, from what a Prometheus answers: Grafana's JSON without Grafana.

The same panels on the same grid of 24 columns, with the same expressions, units, decimals, legends
and thresholds. As in Grafana, big numbers, bars and tables show the end of the stretch that is
drawn, and lines all of it.
"""

import html
import math
import re
from dataclasses import dataclass

from alert_rules import Panel, filled, read_boards, read_panels
from line_chart import Frame, Line, chart, stacked
from prometheus_host import Monitoring, Series

ROW, GAP, WIDTH = 38, 8, 1400
_STEP, _GAP_SECONDS = 1.0, 7.0
_COLORS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#b877d9", "#5794f2", "#e02f44", "#96d98d")
_NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": "#d8d9da"}
_NOTHING = "<div class='nothing'>No data</div>"
_LEGEND_ROW = 18
_STYLE = f"""
body {{ margin: 0; padding: 16px; width: {WIDTH}px; background: #111217; color: #ccccdc;
  font: 13px/1.4 Inter, "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 20px; font-weight: 500; margin: 0 0 12px; }}
.board {{ position: relative; }}
.panel {{ position: absolute; box-sizing: border-box; background: #181b1f; display: flex;
  flex-direction: column; border: 1px solid #2c3235; border-radius: 3px; padding: 8px 10px;
  overflow: hidden; }}
.panel h2 {{ font-size: 13px; font-weight: 500; margin: 0 0 6px; }}
.number {{ font-size: 42px; font-weight: 500; margin: auto; }}
.nothing {{ color: #6e7280; margin: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 12px; }}
th {{ text-align: left; color: #8ab8ff; font-weight: 500; }}
td, th {{ border-bottom: 1px solid #2c3235; padding: 4px 6px; white-space: nowrap;
  max-width: 220px; overflow: hidden; text-overflow: ellipsis; }}
.legend {{ font-size: 11px; line-height: {_LEGEND_ROW}px; overflow: hidden; margin-top: 4px; }}
.legend span {{ display: inline-block; margin-right: 12px; white-space: nowrap; }}
.legend i {{ display: inline-block; width: 12px; height: 3px; margin: 0 5px 3px 0; }}
.bars {{ flex: 1; display: flex; flex-direction: column; gap: 8px; justify-content: center; }}
.bar {{ flex: 1; max-height: 52px; display: grid; grid-template-columns: 1fr 72px; gap: 2px 10px;
  align-items: center; }}
.bar span {{ grid-column: 1 / 3; font-size: 12px; }}
.bar b {{ background: #22252b; height: 100%; min-height: 16px; }}
.bar b i {{ display: block; height: 100%; }}
.bar em {{ font-style: normal; font-size: 16px; text-align: right; }}
svg text {{ fill: #8e8e99; font-size: 10px; }}
"""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn.

    Attributes:
        monitoring: a federation's Prometheus.
        begin: of the stretch of time, Unix time.
        end: of it.
        site: the one site that is shown; ".*" for all.
    """

    monitoring: Monitoring
    begin: float
    end: float
    site: str = ".*"

    def page(self, board: str) -> str:
        """One dashboard as a page."""
        title = html.escape(str(read_boards()[board]["title"]))
        inner = "".join(self._panel(panel) for panel in _panels(board))
        return (
            f"<!doctype html><meta charset='utf-8'><style>{_STYLE}</style><h1>{title}</h1>"
            f"<div class='board' style='height:{_rows(board) * ROW}px'>{inner}</div>"
        )

    def _panel(self, panel: Panel) -> str:
        x, y, w, h = panel.place
        unit = WIDTH / 24
        width, height = w * unit - GAP, h * ROW - GAP
        box = f"left:{x * unit:.0f}px;top:{y * ROW}px;width:{width:.0f}px;height:{height}px"
        match panel.kind:
            case "stat":
                body = self._stat(panel)
            case "table":
                body = self._table(panel)
            case "bargauge":
                body = self._bars(panel)
            case _:
                body = self._lines(panel, width=width - 22, height=height - 44)
        return f"<div class='panel' style='{box}'><h2>{html.escape(panel.title)}</h2>{body}</div>"

    def _now(self, panel: Panel) -> list[Series]:
        found = self.monitoring.at(filled(panel.targets[0][0], site=self.site), self.end)
        return [each for each in found if math.isfinite(each.values[-1])]

    def _over(self, expression: str) -> list[Series]:
        asked = filled(expression, site=self.site)
        return self.monitoring.over(asked, self.begin, self.end, _STEP)

    def _stat(self, panel: Panel) -> str:
        found = self._now(panel)
        if not found:
            return _NOTHING
        value = found[0].values[-1]
        color = color_of(panel, value)
        return f"<div class='number' style='color:{color}'>{shown(panel, value)}</div>"

    def _table(self, panel: Panel) -> str:
        found = self._now(panel)
        if not found:
            return _NOTHING
        labels = {name for series in found for name in series.labels} - panel.columns.left_out
        first = [name for name in panel.columns.first if name in labels]
        names = [*first, *sorted(labels - set(first))]
        titles = [panel.columns.names.get(name, name) for name in (*names, "Value")]
        head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
        rows = "".join(_row(panel, names, series) for series in found[: _rows_of(panel)])
        return f"<table><tr>{head}</tr>{rows}</table>"

    def _bars(self, panel: Panel) -> str:
        found = self._now(panel)
        if not found:
            return _NOTHING
        most = 1.0 if panel.unit == "percentunit" else max(each.values[-1] for each in found)
        bars = "".join(_bar(panel, series, most=most * 1.05) for series in found)
        return f"<div class='bars'>{bars}</div>"

    def _lines(self, panel: Panel, *, width: float, height: float) -> str:
        found = [
            (legend_of(legend, series), _finite(series))
            for expression, legend in panel.targets
            for series in self._over(expression)
        ]
        drawn = [(name, points) for name, points in found if points]
        if not drawn:
            return _NOTHING
        lines = [
            Line(points, _COLORS[number % len(_COLORS)]) for number, (_, points) in enumerate(drawn)
        ]
        names = [name for name, _ in drawn]
        legend, rows = _legend(names, width)
        limits = tuple(
            (value, _NAMED.get(color, color))
            for value, color in panel.thresholds
            if value is not None
        )
        frame = Frame(
            begin=self.begin,
            end=self.end,
            gap=_GAP_SECONDS,
            width=width,
            height=height - rows * _LEGEND_ROW,
            opacity=panel.opacity,
            is_whole=panel.decimals == 0 and panel.unit == "short",
            spell=lambda value: shown(panel, value),
            limits=limits,
            least_top=1.0 if panel.unit == "percentunit" else 0.0,
        )
        return chart(stacked(lines) if panel.is_stacked else lines, frame) + legend


def height_of(board: str) -> int:
    """Of a dashboard's page, in pixels."""
    return _rows(board) * ROW + 72


def shown(panel: Panel, value: float) -> str:
    """A value as the panel shows it: its own word, or by unit and decimals."""
    if value in panel.texts:
        return panel.texts[value]
    match panel.unit:
        case "percentunit":
            return f"{100 * value:.{panel.decimals or 0}f}%"
        case "s":
            return _lasting(value)
        case _ if panel.decimals is not None:
            return f"{value:.{panel.decimals}f}"
        case _:
            return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def color_of(panel: Panel, value: float) -> str:
    """Of the highest threshold that a value reaches."""
    reached = [color for limit, color in panel.thresholds if limit is None or value >= limit]
    return _NAMED.get(reached[-1], reached[-1])


def legend_of(template: str, series: Series) -> str:
    """A series' name: a label that it does not have is empty, as in Grafana."""
    named = re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), template)
    return named.strip() or ", ".join(series.labels.values())


def _lasting(seconds: float) -> str:
    for name, unit in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.3g} s"
    return f"{1000 * seconds:.3g} ms"


def _panels(board: str) -> list[Panel]:
    return [panel for panel in read_panels() if panel.board == board]


def _rows(board: str) -> int:
    return max(panel.place[1] + panel.place[3] for panel in _panels(board))


def _rows_of(panel: Panel) -> int:
    """How many rows its table has room for."""
    return (panel.place[3] * ROW - GAP - 60) // 24


def _finite(series: Series) -> tuple[tuple[float, float], ...]:
    return tuple((when, value) for when, value in series.points if math.isfinite(value))


def _row(panel: Panel, names: list[str], series: Series) -> str:
    value = series.values[-1]
    cells = "".join(f"<td>{html.escape(series.labels.get(name, ''))}</td>" for name in names)
    return f"<tr>{cells}<td style='color:{color_of(panel, value)}'>{shown(panel, value)}</td></tr>"


def _bar(panel: Panel, series: Series, *, most: float) -> str:
    value = series.values[-1]
    share = min(100.0, 100 * value / most) if most else 0.0
    color = color_of(panel, value)
    name = html.escape(legend_of(panel.targets[0][1], series))
    return (
        f"<div class='bar'><span>{name}</span><b><i style='width:{share:.1f}%;background:{color}'>"
        f"</i></b><em style='color:{color}'>{shown(panel, value)}</em></div>"
    )


def _legend(names: list[str], width: float) -> tuple[str, int]:
    """The legend and how many rows it takes, three at most."""
    rows, filled_to = 1, 0.0
    for name in names:
        needed = 31 + 6.9 * len(name)
        if filled_to + needed > width and filled_to:
            rows, filled_to = rows + 1, 0.0
        filled_to += needed
    rows = min(rows, 3)
    colors = (_COLORS[number % len(_COLORS)] for number in range(len(names)))
    entries = "".join(
        f"<span><i style='background:{color}'></i>{html.escape(name)}</span>"
        for name, color in zip(names, colors, strict=True)
    )
    return f"<div class='legend' style='height:{rows * _LEGEND_ROW}px'>{entries}</div>", rows
