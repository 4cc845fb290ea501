"""The site's own log: which run, which round, and how long it took."""

from logged import logged
from one_site import OneSite, evaluate, round_plan


def test_every_line_about_a_request_names_run_and_round(site: OneSite) -> None:
    site.ask(site.admit())
    with logged() as heard:
        site.ask(round_plan(2))
        site.ask(round_plan(1))
        site.ask(evaluate())
        site.site.answer(b"garbage")
    second, first, evaluation, garbage = heard.lines
    assert (second["event"], second["run_id"], second["round"]) == ("released", "run-1", 2)
    assert isinstance(second["dur_s"], float)
    # Refused, as it came after the second.
    assert (first["event"], first["run_id"], first["round"]) == ("refused", "run-1", 1)
    assert (evaluation["event"], evaluation["step"]) == ("released", "evaluation")
    assert "round" not in evaluation
    assert (garbage["event"], garbage["run_id"]) == ("refused", "")
    assert "round" not in garbage
