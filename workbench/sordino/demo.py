"""`sordino demo`: a whole federation on this machine, from keys to an audited model.

Real processes with real boundaries: a server, and for every site a vault (records, no network) and
a link (network, no records). The demo plays all the people: it makes the keys, signs the job as the
data scientist, audits the run, and shows what came out.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sordino.both_ways import left_out
from sordino.connection import Connection, Json
from sordino.demo_data import DemoData, hospitals, own_data
from sordino.demo_synthesis import synthesize_and_train
from sordino.figure_words import in_words
from sordino.finished import FinishedRun
from sordino.profile import load_profile
from sordino.progress import follow
from sordino.result import DemoResult, Quality, RoundEntry, RunResult, result_json
from sordino_deploy.keeper import Keeper
from sordino_deploy.local import Layout, LocalFederation
from sordino_deploy.processes import Supervisor
from sordino_protocols.errors import SordinoError
from sordino_protocols.pricing import resolve
from sordino_protocols.terminal import Output, note, show
from sordino_server.runs import Runs
from sordino_server.statement import Statement
from sordino_server.storage import write_whole

if TYPE_CHECKING:
    from sordino.demo_certificate import PublishedCertificate

_LONG = 1000
_AWAY_SECONDS = 120.0  # how long the server may be away


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says.

    Attributes:
        out: directory for everything that is made; must be empty or absent.
        data: somebody's own files; None for the four hospitals.
        as_json: print one JSON object and nothing else on stdout.
        keep: leave the federation running until Ctrl-C.
    """

    out: Path
    data: Path | None
    as_json: bool
    keep: bool


def run_demo(options: DemoOptions, *, started: float) -> DemoResult:
    """Run the demo; returns its result, which is also written to `result.json`.

    Args:
        options: what the command line says.
        started: when the demo began, by `time.monotonic`.

    Raises:
        InputError: files of `data` are wrong, or `out` is not empty.
        SordinoError: the run failed; says why, and where the logs are.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = hospitals(scratch) if options.data is None else own_data(options.data)
        federation = LocalFederation(options.out, data.sites)
        supervisor = stack.enter_context(Supervisor())
        stack.enter_context(closing(federation))
        keeper = Keeper(supervisor)
        finished = _train(federation, supervisor, keeper, data, started=started)
        note("attacking what was released, and training the rivals …")
        # Torch, matplotlib and scipy: not before the run is over, its processes need the cores.
        from sordino.demo_result import measured  # noqa: PLC0415

        result = measured(federation.layout, finished, started=started)
        _write(federation.layout, result, data)
        from sordino.demo_certificate import publish_certificate  # noqa: PLC0415

        certificate = publish_certificate(federation.layout, finished.run, result["audit"])
        if options.as_json:
            sys.stdout.write(result_json(result) + "\n")
        else:
            _tell(federation, result, certificate)
        if options.keep:
            _keep(federation, keeper)
    return result


def _train(
    federation: LocalFederation,
    supervisor: Supervisor,
    keeper: Keeper,
    data: DemoData,
    *,
    started: float,
) -> FinishedRun:
    sites = [site.name for site in data.sites]
    note(f"starting a server and {len(sites)} sites: {', '.join(sites)}")
    federation.prepare()
    children = federation.start(supervisor)
    job = resolve(data.job)
    federation.wait_server(supervisor, children)
    with Connection(load_profile(federation.submitter_profile)) as connection:
        # The run starts while the sites are still waking up; it waits for them.
        run_id = connection.submit(job)
        federation.wait_vaults(supervisor, children)
        federation.keep(keeper, supervisor, children)
        # Whatever dies from here on is started again, and the run goes on.
        training = keeper.keep_while(lambda: _watch(connection, run_id))
        shown = connection.show(run_id)
        if shown["state"] != "done":
            raise SordinoError(
                f"run {run_id} is {shown['state']}: {shown.get('reason', 'no reason given')}; "
                f"logs: {federation.layout.logs}"
            )
        runs = Runs(federation.layout.server / "state" / "runs")
        synthetic = keeper.keep_while(
            lambda: synthesize_and_train(connection, data, runs, progress=note)
        )
    return FinishedRun(
        run=runs.get(run_id),
        job=job,
        rounds=training.rounds,
        setup_seconds=training.since - started,
        rounds_seconds=training.until - training.since,
        synthetic=synthetic,
    )


@dataclass(frozen=True, slots=True)
class _Training:
    """What was seen of the rounds: their entries, and from when until when, by `time.monotonic`."""

    rounds: list[RoundEntry]
    since: float
    until: float


def _watch(connection: Connection, run_id: str) -> _Training:
    rounds: list[RoundEntry] = []
    since = until = time.monotonic()
    for event in follow(connection.watch_through(run_id, patience_seconds=_AWAY_SECONDS)):
        if event.get("state") == "training":
            since = time.monotonic()
        if event.get("state") == "evaluating":
            until = time.monotonic()
        if event["event"] == "round":
            rounds.append(_round(event))
    return _Training(rounds, since, until)


def _round(event: Json) -> RoundEntry:
    participants = event["participants"]
    return {
        "round": int(str(event["round"])),
        "epsilon_spent": float(str(event["epsilon_spent"])),
        "update_norm": float(str(event["update_norm"])),
        "seconds": float(str(event["seconds"])),
        "participants": len(participants) if isinstance(participants, list) else 0,
    }


def _write(layout: Layout, result: DemoResult, data: DemoData) -> None:
    (layout.scientist / "job.toml").write_text(data.job_text, encoding="utf-8")
    from sordino.page import render  # noqa: PLC0415  # brings matplotlib
    from sordino_audit import report_page  # noqa: PLC0415
    from sordino_audit.sealing import to_json  # noqa: PLC0415

    audit = result["audit"]
    write_whole(Path(result["files"]["audit"]), to_json(audit).encode())
    write_whole(Path(result["files"]["audit_page"]), report_page.render(audit).encode())
    write_whole(layout.root / "result.json", result_json(result, indent=2).encode())
    statement = Statement.model_validate_json(Path(result["files"]["statement"]).read_bytes())
    page = render(result, scores=statement.evaluation)
    write_whole(Path(result["report"]), page.encode())


def _tell(
    federation: LocalFederation, result: DemoResult, certificate: "PublishedCertificate"
) -> None:
    rows: list[Mapping[str, object]] = [
        {
            "site": site["name"],
            "planned": site["epsilon_planned"],
            "spent (PLD)": site["epsilon_spent_pld"],
            "spent (RDP)": site["epsilon_spent_rdp"],
            "budget": site["budget_limit"],
            "left": site["budget_left"],
            "delta": site["delta"],
            "releases": sum(event["count"] for event in site["events"]),
            "vault without network": site["network_cut_off"],
        }
        for site in result["sites"]
    ]
    unit = result["job"]["unit"]
    show(rows, output=Output.TABLE, title=f"\nThe statement: epsilon per {unit}, by site")
    evaluation = result["evaluation"]
    show(compared(result), output=Output.TABLE, title=_title(result["job"]["errors_in"]))
    for sentence in left_out(result):
        sys.stdout.write(f"Left out. {sentence}\n")
    sys.stdout.write(
        f"\nA real federation sees its noisy evaluation only: {in_words(evaluation['figures'])}\n"
    )
    from sordino_audit.audit_words import bound_in_words  # noqa: PLC0415  # brings scipy

    audit = result["audit"]
    sys.stdout.write(
        f"\nThe audit: {audit.verdict.value}. {audit.sentence}\n  {bound_in_words(audit)}\n"
    )
    command = "sordino" if shutil.which("sordino") else sys.argv[0]
    first = federation.layout.site(federation.sites[0].name)
    profile = federation.submitter_profile
    sys.stdout.write(
        f"\nThe page:   {result['report']}\n"
        f"The audit:  {result['files']['audit_page']}\n"
        f"{_synthetic_lines(result)}"
        f"The certificate: {certificate.page}\n"
        f"The model:  {result['files']['model']}\n"
        f"The files:  {federation.layout.root}\n"
        f"{result['seconds']['total']:.0f} s in all; the model was there after"
        f" {result['seconds']['first_model']:.0f} s.\n\n"
        "Next, check the certificate, and a site's ledger:\n"
        f"  {command} {certificate.command}\n"
        f"  {command} ledger verify --config {first / 'site.toml'}\n"
        f"or run `{command} demo --keep`, and in another terminal:\n"
        f"  {command} job price {result['files']['job']} --profile {profile}\n"
    )


def _synthetic_lines(result: DemoResult) -> str:
    files = result["files"]
    if "synthetic_page" not in files:
        return ""
    return (
        f"Synthetic records: {files['synthetic_records']}\n"
        f"  and of them: {files['synthetic_page']}\n"
    )


def compared(result: RunResult) -> list[Mapping[str, object]]:
    """The rows of the table of exact figures: the federation, and the rivals that were trained."""
    central, alone = result["baselines"]["central"], result["baselines"]["alone"]
    models = {
        "all records in one place, no privacy": central,
        "this federation": result["exact"],
        "synthetic records, no rounds, same privacy": _of_synthetic(result),
        "each site alone, same privacy (mean)": None if alone is None else alone["mean"],
    }
    return [
        {"model": name, **{figure: _cell(each) for figure, each in quality.items()}}
        for name, quality in models.items()
        if quality is not None
    ]


def _of_synthetic(result: RunResult) -> Quality | None:
    found = result["synthetic"]["exact"] if "synthetic" in result else {}
    return found or None


def _cell(value: float) -> float:
    """As it is; a large one without what a table would turn into an exponent."""
    return value if abs(value) < _LONG else round(value)


def _title(errors_in: str) -> str:
    title = "\nOn held-out records of all sites, exactly"
    return f"{title}; errors in units of {errors_in}" if errors_in else title


def _keep(federation: LocalFederation, keeper: Keeper) -> None:
    note(f"\nthe federation is running; its data scientist is {federation.submitter_profile}")
    note("Ctrl-C stops every process")
    while True:
        time.sleep(1)
        keeper.look()
