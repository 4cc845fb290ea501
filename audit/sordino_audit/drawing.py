"""Drawings for a page: small inline SVG that takes its colours and its font from the page.

Matplotlib draws with placeholder colours, which become CSS variables afterwards, so one drawing is
right in light and in dark, on screen and on paper. Text stays text. Matplotlib is imported by the
first drawing, not by the module: `sordino --help` must not wait for it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
ACCENT, WARM, GOOD, BAD, THIRD = "#050505", "#060606", "#070707", "#080808", "#090909"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--card",
    ACCENT: "--accent",
    WARM: "--warm",
    GOOD: "--good",
    BAD: "--bad",
    THIRD: "--third",
}
_WIDTH = 4.8
_STYLE: "dict[RcKeyType, str | float | bool]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sordino",
    "font.size": 9.8,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.2,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


class Drawing:
    """One figure with its SVG, filled when the drawing is closed."""

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure
        self.svg = Markup()


@contextmanager
def new_drawing(title: str, *, height: float) -> Iterator[Drawing]:
    """A figure of the page's width to draw on; its SVG is there when the context ends."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        drawing = Drawing(Figure(figsize=(_WIDTH, height), layout="constrained"))
        drawing.figure.patch.set_alpha(0)
        yield drawing
        target = io.StringIO()
        drawing.figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
        drawing.svg = _clean(target.getvalue(), title)


def _clean(svg: str, title: str) -> Markup:
    """Cut what belongs to a file, not to a page; give it the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    label = Markup.escape(title)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704


def css_colour(placeholder: str) -> str:
    """The CSS value that stands for a placeholder in a finished drawing."""
    return f"var({_VARIABLES[placeholder]})"
