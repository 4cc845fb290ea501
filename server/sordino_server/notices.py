"""What somebody should look at: the page's own short list, in the words of the alerts."""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from sordino_protocols.health import Check
from sordino_protocols.rounds import RunState
from sordino_server.page_facts import (
    BUDGET_PAGE,
    BUDGET_TICKET,
    CERTIFICATE_PAGE,
    CERTIFICATE_TICKET,
    Contradicted,
    Notice,
    Record,
    RunFacts,
    Severity,
    SiteFacts,
)

_PATIENCE = 2  # a round that lasts this many deadlines is not merely slow


def notices_of(
    checks: Iterable[Check],
    sites: Iterable[SiteFacts],
    runs: Sequence[RunFacts],
    *,
    certificate_ends: dt.datetime | None,
    now: dt.datetime,
) -> tuple[Notice, ...]:
    """All of them, the most urgent first."""
    found = [
        *_of_checks(checks),
        *(() if certificate_ends is None else _of_certificate(certificate_ends, now)),
        *(notice for site in sites for notice in _of_site(site)),
        *(notice for run in runs for notice in _of_run(run, now)),
        *_of_newest(runs),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda each: order.index(each.severity)))


def _of_checks(checks: Iterable[Check]) -> Iterator[Notice]:
    for each in checks:
        if not each.is_ok:
            name = each.name.replace("_", " ")
            yield Notice(Severity.NOW, "server", f"Not ready, {name}: {each.detail}.")


def _of_site(site: SiteFacts) -> Iterator[Notice]:
    for contradicted in site.contradicted:
        yield _of_record(contradicted)
    if not site.is_connected:
        since = (
            "never was" if site.last_seen is None else f"last seen {site.last_seen:%H:%M:%S} UTC"
        )
        yield Notice(Severity.SOON, site.name, f"Not connected; {since}.")
    for each in site.budgets:
        if each.share >= BUDGET_TICKET:
            severity = Severity.NOW if each.share >= BUDGET_PAGE else Severity.SOON
            text = f"{each.share:.0%} of the budget of {each.dataset} is spent."
            yield Notice(severity, site.name, text)


def _of_record(contradicted: Contradicted) -> Notice:
    match contradicted.record:
        case Record.LEDGER:
            text = (
                f"Its ledger contradicts what it signed before: {contradicted.detail}. No run takes"
                " it until its admin has recovered the ledger. If it was forked, and explained:"
            )
            command = f"sordino server forget {contradicted.site}"
        case Record.AUDIT_LOG:
            text = (
                "Its audit log was rewritten: it does not go on from what the site showed of it"
                " before. Runs go on; have its admin send the log, and compare the two. When it is"
                " explained:"
            )
            command = f"sordino server forget --audit-log {contradicted.site}"
    return Notice(Severity.NOW, contradicted.site, text, command=command)


def _of_certificate(ends: dt.datetime, now: dt.datetime) -> Iterator[Notice]:
    left = ends - now
    # With less than a day the server is not ready, and that says it.
    if dt.timedelta(days=1) <= left < CERTIFICATE_TICKET:
        severity = Severity.NOW if left < CERTIFICATE_PAGE else Severity.SOON
        text = f"Its certificate ends {ends:%Y-%m-%d %H:%M} UTC, in {left.days} d. Renew it."
        yield Notice(severity, "server", text)


def _of_run(run: RunFacts, now: dt.datetime) -> Iterator[Notice]:
    if run.is_violated:
        withheld = " Its model is withheld until somebody decides." if run.quarantine else ""
        text = f"An audit found that more leaves than was promised.{withheld}"
        yield Notice(Severity.NOW, run.name, text, run.run_id)
    elif run.audit is not None and run.audit.verdict == "suspect":
        text = "An audit found evidence against the promise, not enough for a verdict."
        yield Notice(Severity.SOON, run.name, text, run.run_id)
    if run.waits_for:
        text = f"Waits for a person's yes at {', '.join(run.waits_for)}."
        yield Notice(Severity.KNOW, run.name, text, run.run_id)
    elif _is_stalled(run, now):
        yield Notice(Severity.SOON, run.name, "No progress for two deadlines.", run.run_id)


def _of_newest(runs: Sequence[RunFacts]) -> Iterator[Notice]:
    """The newest run that is over, if it failed: older ones were there to be looked at."""
    ended = [each for each in runs if each.is_over]
    newest = max(ended, key=lambda each: each.changed, default=None)
    if newest is not None and newest.state is RunState.FAILED:
        text = f"It failed: {newest.reason or 'its log says why'}."
        yield Notice(Severity.SOON, newest.name, text, newest.run_id)


def _is_stalled(run: RunFacts, now: dt.datetime) -> bool:
    if run.is_over or run.state is RunState.QUEUED:
        return False
    silence = (now - dt.datetime.fromisoformat(run.changed)).total_seconds()
    return silence > _PATIENCE * run.deadline_seconds
