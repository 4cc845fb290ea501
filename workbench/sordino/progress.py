"""What a person sees while a run goes on: bars on a terminal, one line a round otherwise."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Event = Mapping[str, object]


def follow(events: Iterable[Event], *, is_quiet: bool = False) -> Iterator[Event]:
    """Pass a run's events on, and show them on stderr as they come."""
    if is_quiet:
        yield from events
    elif sys.stderr.isatty():
        yield from _with_bar(events)
    else:
        yield from _with_lines(events)


def _with_bar(events: Iterable[Event]) -> Iterator[Event]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("epsilon {task.fields[epsilon]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("waiting", total=1, epsilon=0.0)
        for event in events:
            if event["event"] == "state":
                progress.update(task, description=str(event["state"]))
            if (remark := _remark(event)) is not None:
                progress.console.print(remark, markup=False, highlight=False)
            if event["event"] == "round":
                progress.update(
                    task,
                    completed=_number(event, "round"),
                    total=_number(event, "rounds"),
                    epsilon=_number(event, "epsilon_spent"),
                )
            yield event


def _with_lines(events: Iterable[Event]) -> Iterator[Event]:
    started = time.monotonic()
    for event in events:
        if event["event"] == "state":
            started = time.monotonic()
            sys.stderr.write(f"{event['state']}\n")
        if (remark := _remark(event)) is not None:
            sys.stderr.write(f"{remark}\n")
        if event["event"] == "round":
            done, planned = _number(event, "round"), _number(event, "rounds")
            left = (time.monotonic() - started) / done * (planned - done)
            sys.stderr.write(
                f"round {done:.0f}/{planned:.0f}  epsilon {_number(event, 'epsilon_spent'):.3f}"
                f"  about {left:.0f} s left\n"
            )
        yield event


def _remark(event: Event) -> str | None:
    """What a person should know of a single site, or of the server."""
    match event["event"]:
        case "waiting_for_approval":
            return f"waiting for approval at {event['site']}"
        case "left_out":
            return f"left out: {event['site']}: {event['reason']}"
        case "waiting_for_site":
            return f"waiting for {event['site']}: {event['reason']}"
        case "answer_changed":
            return f"{event['site']} gave two different answers; only the first counts"
        case "hindered":
            return f"the server waits to be mended: {event['reason']}"
        case _:
            return None


def _number(event: Event, key: str) -> float:
    value = event[key]
    return float(value) if isinstance(value, int | float) else 0.0
