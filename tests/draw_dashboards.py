"""Draw the dashboards from what a real Prometheus answers: `python tests/draw_dashboards.py DIR`.

For the pictures in docs/: two real runs of two sites, a run in which a site broke its promise, and
real audits of all three. Headless Chromium turns each page of `board_drawing` into a PNG.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "audit"), str(HERE.parent)]

from alert_rules import read_boards  # noqa: E402 - after the path
from audited_federation import audit  # noqa: E402
from board_drawing import WIDTH, Drawing, height_of  # noqa: E402
from broken_promise import hand_over_broken_run, refute  # noqa: E402
from prometheus_host import Monitoring, watched  # noqa: E402
from real_federation import Running, make_job, run_federation, until  # noqa: E402

ROUNDS = 8
UNDER_WAY = {"sordino-run", "sordino-privacy", "sordino-site"}
"""Boards that are drawn as they were while a run was under way; the others as it all ended."""


ONE_SITE = {"sordino-site": "cleveland"}
SEEN_SECONDS = 25


def draw(directory: Path) -> None:
    """Run a federation of two sites under a Prometheus, and leave a picture of each dashboard."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sordino-dashboards-") as made,
        run_federation(Path(made) / "run", ("cleveland", "va")) as running,
        watched(running, Path(made) / "monitoring") as monitoring,
    ):
        scratch = Path(made)
        begin, runs = time.time(), running.server_config.runs_directory
        until(lambda: len(monitoring.at("up == 1")) == len(running.names) + 1)
        reports = ("--reports", scratch / "reports")
        for _ in range(2):
            run_id = _run(running)
            audit("run", runs / run_id, *reports)
        halfway = _halfway(monitoring, run_id, begin)
        refute(hand_over_broken_run(runs, scratch=scratch / "broken"), *reports)
        until(lambda: _lasts(monitoring, 'ALERTS{alertname="AuditViolation"}', begin))
        end = time.time()
        for board in read_boards():
            drawing = Drawing(
                monitoring,
                begin,
                halfway if board in UNDER_WAY else end,
                site=ONE_SITE.get(board, ".*"),
            )
            page = scratch / f"{board}.html"
            page.write_text(drawing.page(board), encoding="utf-8")
            picture = directory / f"dashboard-{board.removeprefix('sordino-')}.png"
            _photograph(page, picture, height=height_of(board))


def _run(running: Running) -> str:
    run_id = running.connection.submit(make_job(rounds=ROUNDS, quorum=2))
    list(running.connection.watch(run_id))
    return run_id


def _lasts(monitoring: Monitoring, expression: str, begin: float) -> bool:
    """Whether it has been there long enough to be seen on a picture."""
    found = monitoring.over(expression, begin, time.time())
    return any(len(each.points) >= SEEN_SECONDS for each in found)


def _halfway(monitoring: Monitoring, run_id: str, begin: float) -> float:
    """When a run was in the middle of its rounds."""
    (rounds,) = monitoring.over(f'sordino_run_round{{run_id="{run_id}"}}', begin, time.time())
    return next(when for when, value in rounds.points if value >= ROUNDS // 2)


def _photograph(page: Path, picture: Path, *, height: int) -> None:
    command = [
        "/usr/bin/env",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--disable-gpu",
        f"--window-size={WIDTH + 32},{height}",
        f"--screenshot={picture}",
        f"file://{page}",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
