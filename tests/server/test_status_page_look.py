"""The status page in a real browser: nothing overflows, and it is live."""

import datetime as dt
from collections.abc import Iterator

import pytest
from browser import Browser, open_browser
from watched_server import NOW, WatchedServer, audited, node, watched_server

from sordino_protocols.rounds import RunEvent

SIZES = [(1366, 768), (390, 844)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    """A server with everything that a page can show, and names that are long."""
    with watched_server(tmp_path_factory.mktemp("server")) as running:
        audited(running.finished(), verdict="violation", lower=5.3)
        running.started(rounds=2)
        running.federation.submit()
        failed = running.federation.submit()
        failed.advance(RunEvent.GAVE_UP, reason="no site took part")
        running.federation.heads.note_audit_log("lyon", (1, "c4" * 32), is_fresh=True)
        running.certificate_ends = NOW + dt.timedelta(days=3)
        running.nodes[2] = node("porto", is_online=False)
        running.nodes.append(
            node("a-site-whose-name-is-as-long-as-any-name-of-a-site-may-ever-be-1")
        )
        yield running


def live(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait_for("document.body.dataset.live === 'on'")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_wider_than_the_screen(
    browser: Browser, watched: WatchedServer, width: int, height: int
) -> None:
    run = watched.federation.runs.all()[0]
    for path in ("/", f"/runs/{run.run_id}"):
        browser.resize(width, height)
        live(browser, f"http://{watched.address}{path}")
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.overflowing() == []


def test_a_change_is_seen_without_loading_the_page_again(
    browser: Browser, watched: WatchedServer
) -> None:
    browser.resize(1280, 800)
    live(browser, f"http://{watched.address}/")
    browser.evaluate("window.isTheSamePage = true")
    assert browser.evaluate("document.body.innerText.includes('zurich')") is False
    watched.nodes.append(node("zurich"))
    browser.wait_for("document.body.innerText.includes('zurich')")
    assert browser.evaluate("window.isTheSamePage") is True


def test_it_is_readable_without_scripts_and_comes_again_by_itself(
    browser: Browser, watched: WatchedServer
) -> None:
    browser.allow_scripts(allowed=False)
    try:
        browser.open(f"http://{watched.address}/")
        assert browser.evaluate("document.querySelector('#live').textContent") == "as of this load"
        assert browser.evaluate("document.querySelectorAll('time')[0].textContent.endsWith('UTC')")
        refresh = "document.querySelector('noscript meta[http-equiv=refresh]') !== null"
        assert browser.evaluate(refresh) is True
    finally:
        browser.allow_scripts(allowed=True)


def test_it_is_dark_where_people_want_it_dark(browser: Browser, watched: WatchedServer) -> None:
    colours = set()
    for is_dark in (False, True):
        browser.resize(1280, 800, theme="dark" if is_dark else "light")
        live(browser, f"http://{watched.address}/")
        colours.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == {"rgb(247, 245, 240)", "rgb(20, 23, 27)"}
