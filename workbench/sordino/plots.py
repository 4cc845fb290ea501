"""The page's plots of what a run spent."""

from markupsafe import Markup

from sordino.result import RunResult
from sordino_audit.drawing import ACCENT, INK, WARM, new_drawing


def epsilon_by_round(result: RunResult) -> Markup:
    """Cumulative epsilon of training against the plan, by round."""
    rounds = [0, *(each["round"] for each in result["training"])]
    spent = [0.0, *(each["epsilon_spent"] for each in result["training"])]
    with new_drawing("Epsilon spent by round", height=2.6) as drawing:
        axes = drawing.figure.subplots()
        planned = result["job"]["epsilon"]
        axes.axhline(planned, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"promised {planned:g}", (0, planned), (2, 4), textcoords="offset points", color=INK
        )
        axes.fill_between(rounds, spent, color=ACCENT, alpha=0.12, linewidth=0)
        axes.plot(rounds, spent, color=ACCENT, linewidth=1.8)
        axes.annotate(
            f"{spent[-1]:.2f} training",
            (rounds[-1], spent[-1]),
            (-4, -30),
            textcoords="offset points",
            ha="right",
            color=ACCENT,
        )
        for site in result["sites"]:
            axes.plot(rounds[-1], site["epsilon_spent_pld"], "o", color=WARM, markersize=5)
        axes.plot([], [], "o", color=WARM, markersize=5, label="spent by a site, with evaluation")
        axes.legend(loc="lower right")
        axes.set(xlabel="Round", ylabel="Epsilon", xlim=(0, max(rounds) * 1.02))
        axes.set_ylim(0, planned * 1.18)
        axes.grid(axis="y")
    return drawing.svg


def budgets(result: RunResult) -> Markup:
    """Spent and left of every site's lifetime budget."""
    sites = result["sites"]
    names = [site["name"] for site in sites]
    left = [site["budget_left"] for site in sites]
    spent = [site["budget_limit"] - site["budget_left"] for site in sites]
    with new_drawing("Budget by site", height=1.0 + 0.4 * len(sites)) as drawing:
        axes = drawing.figure.subplots()
        axes.barh(names, spent, color=ACCENT, height=0.5, label="spent")
        axes.barh(names, left, left=spent, color=ACCENT, alpha=0.18, height=0.5, label="left")
        for row, (used, rest) in enumerate(zip(spent, left, strict=True)):
            axes.annotate(
                f"{rest:.2f} left",
                (used + rest, row),
                (-4, 0),
                textcoords="offset points",
                va="center",
                ha="right",
            )
        axes.invert_yaxis()
        axes.set_xlabel("Epsilon, lifetime")
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    return drawing.svg
