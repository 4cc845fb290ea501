"""Draw the status page in every state that it has: `python tests/draw_page.py DIR`.

Real runs on a grid in memory, the page on a real socket, headless Chromium: for the pictures in
docs/. Each state on a laptop, some on a phone as well, the whole page of it.
"""

import contextlib
import datetime as dt
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from browser import Browser, Theme, open_browser  # noqa: E402 - after the path
from federation import JOB, make_job  # noqa: E402
from watched_server import NOW, WatchedServer, audited, node, watched_server  # noqa: E402

from sordino_protocols.heads import sign_head  # noqa: E402
from sordino_protocols.rounds import RunEvent  # noqa: E402
from sordino_server.heads import ContradictionError  # noqa: E402

LAPTOP, PHONE = (1366, 768), (390, 844)
SCREENS = {"laptop": LAPTOP, "phone": PHONE}


def nobody(watched: WatchedServer) -> None:
    """No site is enrolled."""
    watched.nodes.clear()


def nothing(watched: WatchedServer) -> None:
    """Three sites, no run."""


def running(watched: WatchedServer) -> None:
    """A run under way, one over that an audit confirmed, one that waits."""
    audited(watched.finished(), verdict="tight", lower=3.2)
    watched.started(rounds=2)
    watched.federation.submit()


def failed(watched: WatchedServer) -> None:
    """A run that gave up."""
    run = watched.started()
    run.advance(
        RunEvent.GAVE_UP,
        reason="1 of 3 sites answered RoundPlan; the job needs 2 (lyon: late, no answer came in"
        " time: it hangs, or is slow; porto: unreachable, it is not connected)",
    )


def away(watched: WatchedServer) -> None:
    """A site that is not connected while a run goes on without it."""
    watched.finished()
    watched.started(rounds=2)
    watched.nodes[2] = node("porto", is_online=False)


def violated(watched: WatchedServer) -> None:
    """An audit that found a broken promise."""
    audited(watched.finished(), verdict="violation", lower=5.3)
    watched.started(rounds=2)
    watched.nodes[2] = node("porto", is_online=False)


def expiring(watched: WatchedServer) -> None:
    """The server's certificate ends in a day and a half."""
    watched.certificate_ends = NOW + dt.timedelta(hours=36)


def exhausted(watched: WatchedServer) -> None:
    """Budgets that are nearly gone."""
    for epsilon in (4, 4, 2, 2):
        run = watched.federation.submit(
            make_job(JOB.replace("epsilon = 4", f"epsilon = {epsilon}"))
        )
        watched.federation.coordinator(run).execute()


def contradicted(watched: WatchedServer) -> None:
    """A ledger with two histories, and an audit log that was rewritten."""
    watched.finished()
    heads = watched.federation.heads
    known = heads.get("porto")
    assert known is not None
    forked = sign_head(
        watched.federation.sites["porto"].signer, length=known.length, hash="5e" * 32
    )
    with contextlib.suppress(ContradictionError):
        heads.note("porto", forked)
    heads.note_audit_log("lyon", (1, "c4" * 32), is_fresh=True)


STATES: Mapping[str, Callable[[WatchedServer], None]] = {
    "no-sites": nobody,
    "no-runs": nothing,
    "running": running,
    "failed": failed,
    "site-away": away,
    "violation": violated,
    "certificate": expiring,
    "budget": exhausted,
    "contradiction": contradicted,
}
"""What is drawn, and how it comes about."""

ALSO_ON_A_PHONE = {"running", "failed", "site-away", "violation", "contradiction"}
NIGHT = {"site-away"}
"""Drawn on a dark screen."""


def draw(directory: Path) -> None:
    """Leave a picture of each state, and one of a run."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sordino-page-") as scratch,
        open_browser(Path(scratch)) as browser,
    ):
        for name, come_about in STATES.items():
            (state := Path(scratch) / name).mkdir()
            with watched_server(state) as watched:
                come_about(watched)
                theme: Theme = "dark" if name in NIGHT else "light"
                url = f"http://{watched.address}/"
                for screen, size in SCREENS.items():
                    if screen == "laptop" or name in ALSO_ON_A_PHONE:
                        picture = f"page-{screen}-{name}.png".replace("-running", "")
                        _picture(browser, url, directory / picture, size, theme)
                if name == "violation":
                    run = watched.federation.runs.all()[0]
                    url = f"{url}runs/{run.run_id}"
                    _picture(browser, url, directory / "page-run.png", LAPTOP, theme)


def _picture(browser: Browser, url: str, path: Path, size: tuple[int, int], theme: Theme) -> None:
    browser.resize(*size, theme=theme)
    browser.open(url)
    browser.wait_for("document.body.dataset.live === 'on'")
    browser.screenshot(path)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
