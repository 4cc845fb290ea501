"""The nine invariants that the engine rests on, each as a property of a real site.

What is proved elsewhere is named here, and `test_what_proves_the_rest_is_there` sees that it is:

1. No release leaves before its charge is on disk: here, by what lies on disk when noise is drawn.
   test_ledger_crash::test_a_site_killed_anywhere_pays_once_and_has_one_release
2. Spent never decreases and never passes the limit.
   test_ledger_life::test_any_life_of_a_ledger_in_a_file
   test_site_fuzz::test_no_sequence_of_messages_crashes_a_site_or_gets_a_release_for_nothing
3. Killed between any two system calls, a site has one release for one step.
   test_ledger_syscalls::test_a_site_killed_between_any_two_system_calls_keeps_every_promise
   test_outbox::test_a_file_is_on_disk_before_it_has_its_name
4. A process that restarts in mid-run restores accountant and plan, or refuses before it touches a
   record: here.
5. A job can only tighten policy: here at the site; for every rule
   test_policy_properties::test_asking_for_less_never_turns_a_yes_into_a_no
   test_policy_properties::test_whatever_a_job_says_what_passes_is_within_every_cap
6. The epsilon that is shown is at least an independent accountant's, less a tolerance: here for
   receipts; for events of every kind
   test_cross_check::test_the_accountants_agree_about_runs
   test_cross_check::test_a_tight_accountant_that_sees_a_hundredth_too_much_noise_is_caught
7. One removed or changed line of ledger or audit log is found: here.
   test_ledger_chain::test_tampering_is_found_by_whoever_reads
8. The sampler used is the sampler accounted: here, by the coins that a site tosses.
   test_sampling::test_each_unit_enters_at_the_rate_and_independently
9. Whatever leaves is declared public or DP: here, by two sites that differ in their records alone.
   test_site_fuzz::test_no_sequence_of_messages_crashes_a_site_or_gets_a_release_for_nothing
"""

import dataclasses
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from crashing import VARIANTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from one_site import (
    MOMENTS_JOB,
    OneSite,
    evaluate,
    make_job,
    measure,
    refusal,
    round_plan,
    settle,
)
from opacus.accountants import PRVAccountant
from small_job import job_text

from sordino_client.ledger import read_entries
from sordino_client.site import Site
from sordino_client.training.noise import SecureNoise
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import IntegrityError
from sordino_protocols.job import Job
from sordino_protocols.messages import (
    Admission,
    Describe,
    Described,
    Evaluation,
    Inquire,
    Message,
    Quote,
    Recalled,
    Receipt,
    Refusal,
    Refused,
    Reply,
    Statistics,
    Tabulated,
    Unmasked,
    Update,
)
from sordino_protocols.privacy import Composed, DiscreteGaussian, Event, Gaussian, PoissonGaussian

TESTS = Path(__file__).parent
FEW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
MAX_EPSILON, MAX_ROUNDS, MIN_BATCH = 4.0, 50, 20.0
"""What the policy of `one_site` allows."""
PLD_TOLERANCE = 0.02
"""Opacus' PRV accountant is asked for an error of .01; ours rounds up."""


class ObservedNoise:
    """Secure noise; before each draw, somebody looks."""

    def __init__(self) -> None:
        self._noise = SecureNoise()
        self.look: Callable[[], None] = lambda: None
        self.coins: list[float] = []

    @property
    def is_secure(self) -> bool:
        return True

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        self.look()
        return self._noise.standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        self.look()
        return self._noise.discrete_gaussian(count, noise_std=noise_std)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        self.look()
        self.coins.append(probability)
        return self._noise.bernoulli(count, probability=probability)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that was set up and never started."""
    made = OneSite(tmp_path_factory.mktemp("template") / "site")
    made.prepare()
    return made.directory


@pytest.fixture
def start(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], OneSite]]:
    """Starts sites of their own, with the same keys and records."""
    started: list[OneSite] = []

    def make() -> OneSite:
        directory = tmp_path_factory.mktemp("site") / "site"
        shutil.copytree(template, directory)
        started.append(OneSite(directory, noise=ObservedNoise()))
        started[-1].open()
        return started[-1]

    yield make
    for site in started:
        site.close()


def sampled_job(*, rate: float = 0.5, rounds: int = 3, steps: int = 1, epsilon: int = 3) -> Job:
    text = job_text("", epsilon=epsilon, rounds=rounds).replace(
        "sampling_rate = 1", f"sampling_rate = {rate}\nlocal_steps = {steps}"
    )
    return make_job(text)


def releases(job: Job) -> Sequence[Message]:
    """Everything of a run that costs something."""
    asked: list[Message] = [measure(job=job)] if job.plan.statistics else []
    asked += [round_plan(number, job=job) for number in (1, 2, 3)]
    return [*asked, evaluate(job=job)]


# ---------------------------------------------------------------- (1) charged before it is made


def uncharged_draws(site: OneSite, asked: Sequence[Message]) -> list[str]:
    """Which requests draw noise while the newest entry on disk is no reservation."""
    noise = site.noise
    assert isinstance(noise, ObservedNoise)
    found: list[str] = []

    def look() -> None:
        newest = read_entries(site.config.ledger_path)[-1]
        if newest["kind"] != "reserve":
            found.append(f"noise after {newest['kind']} {newest.get('step', '')}")

    for request in asked:
        noise.look = look
        site.ask(request)
    return found


@FEW
@given(order=st.permutations(range(5)), again=st.booleans())
def test_1_no_release_is_made_before_its_charge_is_on_disk(
    start: Callable[[], OneSite],
    order: list[int],
    again: bool,  # noqa: FBT001 (drawn)
) -> None:
    site, job = start(), make_job(MOMENTS_JOB)
    assert isinstance(site.ask(site.admit(job=job)), Admission)
    asked = [releases(job)[place] for place in order]
    assert uncharged_draws(site, asked * (2 if again else 1)) == []
    reserved = [entry for entry in read_entries(site.config.ledger_path) if "event" in entry]
    assert len(reserved) == 1 + len(site.ledger.charged("run-1"))


def test_1_a_site_that_pays_too_late_is_found_out(
    start: Callable[[], OneSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start()
    site.ask(site.admit())
    monkeypatch.setattr(Site, "_release", VARIANTS["pay_too_late"])
    assert uncharged_draws(site, [round_plan()])


# ---------------------------------------------------------------- (4) restarts in mid-run


@FEW
@given(before=st.integers(0, 5), restarts=st.integers(1, 2))
def test_4_a_restart_in_mid_run_restores_plan_and_accountant(
    start: Callable[[], OneSite], before: int, restarts: int
) -> None:
    job = make_job(MOMENTS_JOB)
    site, untouched = start(), start()
    for each in (site, untouched):
        each.ask(each.admit(job=job))
    for request in releases(job)[:before]:
        site.ask(request)
        untouched.ask(request)
    charged, spent, head = site.ledger.charged("run-1"), site.spent, site.ledger.head
    for _ in range(restarts):
        site.open()
    assert (site.ledger.charged("run-1"), site.ledger.head) == (charged, head)
    assert site.spent == pytest.approx(spent, rel=1e-12)
    assert site.ledger.planned("run-1") == job.plan.event
    for request in releases(job)[before:]:
        assert type(site.ask(request)) is type(untouched.ask(request))
    assert site.ledger.charged("run-1") == untouched.ledger.charged("run-1")


def _lose(path: Path) -> None:
    path.unlink()


def _spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("harm", [_lose, _spoil])
@pytest.mark.parametrize("lost", ["runs/run-1.json", "ledger.db", "outbox/run-1/round-1.release"])
def test_4_what_cannot_be_restored_is_refused_before_a_record_is_touched(
    start: Callable[[], OneSite], lost: str, harm: Callable[[Path], None]
) -> None:
    site = start()
    site.ask(site.admit())
    site.ask(round_plan(1))
    site.close()
    path = site.config.site.state / lost
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    harm(path)
    noise = site.noise
    assert isinstance(noise, ObservedNoise)
    drawn: list[str] = []
    noise.look = lambda: drawn.append("noise")
    try:
        site.open()
    except IntegrityError:
        return
    # The round that was answered is given again as it was, or not at all.
    answer = site.ask(round_plan(1))
    if "outbox" in lost or "ledger" in lost:
        assert refusal(answer) is Refusal.INTEGRITY
    else:
        assert refusal(answer) in {Refusal.NOT_ADMITTED, Refusal.INTEGRITY}
    assert drawn == []


# ---------------------------------------------------------------- (5) a job can only tighten


@FEW
@given(
    epsilon=st.integers(1, 6),
    rounds=st.sampled_from([1, 3, 49, 50, 51, 80]),
    rate=st.sampled_from([1, 0.25, 0.15]),
)
def test_5_whatever_a_job_asks_for_a_site_holds_no_more_than_its_policy_allows(
    start: Callable[[], OneSite], epsilon: int, rounds: int, rate: float
) -> None:
    site, job = start(), sampled_job(rate=rate, rounds=rounds, epsilon=epsilon)
    is_within = epsilon <= MAX_EPSILON and rounds <= MAX_ROUNDS and 100 * rate >= MIN_BATCH
    answer = site.ask(site.admit(job=job))
    assert isinstance(answer, Admission) == is_within
    if is_within:
        held = epsilon_by_pld(site.ledger.planned("run-1"), 1e-5)
        assert held <= MAX_EPSILON * (1 + 1e-3)
    else:
        assert refusal(answer) is Refusal.FORBIDDEN_BY_POLICY
        assert site.ledger.length == 0


# ---------------------------------------------------------------- (6) epsilon is not understated


def gaussian_epsilon(events: Sequence[Event], delta: float) -> float:
    """What Opacus' PRV accountant says of all that is Gaussian in these events."""
    accountant = PRVAccountant()
    for event in events:
        match event:
            case Composed(parts):
                return gaussian_epsilon(parts, delta)
            case PoissonGaussian(rate, noise, count):
                accountant.history.append((noise, rate, count))
            case Gaussian(noise) | DiscreteGaussian(noise):
                accountant.history.append((noise, 1.0, 1))
    return float(accountant.get_epsilon(delta, eps_error=0.01, delta_error=delta / 1000))


@pytest.mark.parametrize(("rate", "steps"), [(0.5, 1), (0.25, 4)])
def test_6_a_receipt_shows_no_less_than_an_independent_accountant(
    start: Callable[[], OneSite], rate: float, steps: int
) -> None:
    site, job = start(), sampled_job(rate=rate, steps=steps)
    site.ask(site.admit(job=job))
    for request in releases(job):
        assert isinstance(site.ask(request), Update | Evaluation)
    charged = site.ledger.charged("run-1")
    receipt = site.ask(settle(job=job))
    assert isinstance(receipt, Receipt)
    independent = gaussian_epsilon(charged, receipt.delta)
    assert receipt.epsilon_spent_pld >= independent - PLD_TOLERANCE
    assert receipt.epsilon_spent_rdp >= receipt.epsilon_spent_pld - 1e-3
    # A receipt that forgot a round would be found out.
    forgetful = epsilon_by_pld(Composed(charged[1:]), receipt.delta)
    assert forgetful < independent - PLD_TOLERANCE


# ---------------------------------------------------------------- (7) changed memories are found


def entries_of(path: Path) -> list[tuple[int, bytes, str]]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.execute("select seq, body, hash from entries order by seq"))


def write_entries(path: Path, rows: Sequence[tuple[int, bytes, str]]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("delete from entries")
        database.executemany("insert into entries values (?, ?, ?)", rows)


def live_a_little(site: OneSite) -> None:
    for request in (site.admit(), round_plan(1), round_plan(2), evaluate(), settle()):
        site.ask(request)


@settings(FEW, max_examples=12)
@given(data=st.data())
def test_7_one_changed_or_removed_entry_of_the_ledger_is_found(
    start: Callable[[], OneSite], data: st.DataObject
) -> None:
    site = start()
    live_a_little(site)
    remembered = site.site._head()
    site.close()
    path = site.config.ledger_path
    rows = entries_of(path)
    place = data.draw(st.integers(0, len(rows) - 1))
    seq, body, recorded = rows[place]
    if data.draw(st.booleans()):
        del rows[place]
    else:
        at = data.draw(st.integers(0, len(body) - 1))
        changed = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
        rows[place] = (seq, changed, recorded)
    write_entries(path, rows)
    assert not is_whole(site, remembered.length)


def is_whole(site: OneSite, remembered: int) -> bool:
    """Whether a site that is started again goes on from what others remember of it."""
    try:
        site.open()
    except IntegrityError:
        return False
    return site.ledger.halted is None and site.ledger.length >= remembered


def test_7_a_ledger_that_nobody_touched_is_whole(start: Callable[[], OneSite]) -> None:
    site = start()
    live_a_little(site)
    remembered = site.ledger.length
    site.close()
    path = site.config.ledger_path
    write_entries(path, entries_of(path))
    assert is_whole(site, remembered)


@settings(FEW, max_examples=12)
@given(data=st.data())
def test_7_one_changed_or_removed_line_of_the_audit_log_is_found(
    start: Callable[[], OneSite], data: st.DataObject
) -> None:
    site = start()
    live_a_little(site)
    site.ask(site.admit("run-2", sampled_job(rounds=80)))
    path = site.config.audit_log_path
    assert len(read_audit_log(path)) >= 3
    lines = path.read_bytes().splitlines(keepends=True)
    place = data.draw(st.integers(0, len(lines) - 1))
    if data.draw(st.booleans()):
        del lines[place]
    else:
        line = lines[place]
        at = data.draw(st.integers(0, len(line) - 2))
        other = line[at] ^ data.draw(st.integers(1, 255))
        lines[place] = line[:at] + bytes([other]) + line[at + 1 :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError):
        read_audit_log(path)


# ---------------------------------------------------------------- (8) sampled as accounted


@FEW
@given(rate=st.sampled_from([0.25, 0.5, 0.8]), steps=st.integers(1, 4), rounds=st.integers(1, 3))
def test_8_the_coins_that_a_site_tosses_are_the_ones_that_its_ledger_charges(
    start: Callable[[], OneSite], rate: float, steps: int, rounds: int
) -> None:
    site, job = start(), sampled_job(rate=rate, steps=steps)
    site.ask(site.admit(job=job))
    noise = site.noise
    assert isinstance(noise, ObservedNoise)
    # The trial step of an admission has made-up units.
    noise.coins.clear()
    for number in range(1, rounds + 1):
        assert isinstance(site.ask(round_plan(number, job=job)), Update)
    charged = site.ledger.charged("run-1")
    assert all(isinstance(event, PoissonGaussian) for event in charged)
    accounted = [
        event.sampling_rate
        for event in charged
        if isinstance(event, PoissonGaussian)
        for _ in range(event.steps)
    ]
    assert noise.coins == accounted
    assert len(accounted) == rounds * steps


# ---------------------------------------------------------------- (9) what leaves

WHAT_LEAVES = {
    Recalled: {"declared": "run_id ledger_head audit_length audit_head"},
    Described: {"declared": "run_id schema_json"},
    Quote: {
        "declared": "run_id refusal needs_approval rule epsilon_pld epsilon_rdp budget_left"
        " rounds_that_fit noise_that_fits"
    },
    Admission: {
        "declared": "run_id job_digest order_of_magnitude feature_count feature_digest measured"
        " label_scale ledger_head",
        "coins": "coins_commitment",
    },
    Statistics: {"declared": "run_id job_digest ledger_head", "paid": "vector"},
    Update: {"declared": "run_id job_digest round ledger_head", "paid": "vector"},
    Evaluation: {"declared": "run_id job_digest ledger_head", "paid": "histogram"},
    Tabulated: {"declared": "run_id job_digest ledger_head", "paid": "numbers"},
    # A sum of masks, which are made of keys.
    Unmasked: {"declared": "run_id job_digest ledger_head", "masks": "numbers"},
    Receipt: {
        "declared": "run_id job_digest epsilon_planned epsilon_spent_pld epsilon_spent_rdp delta"
        " events_json policy_sha256 approvals_json budget_limit budget_delta budget_spent"
        " budget_left network_cut_off ledger_head audit_length audit_head",
        "coins": "coins coins_salt",
    },
    Refused: {"declared": "run_id refusal"},
}
"""Every field that can leave a site: declared, paid for, or a coin or mask that no record is in."""


def test_9_every_field_that_can_leave_was_thought_about() -> None:
    assert set(WHAT_LEAVES) == set(Reply.__args__)
    for kind, fields in WHAT_LEAVES.items():
        known = [name for names in fields.values() for name in names.split()]
        assert sorted(known) == sorted(each.name for each in dataclasses.fields(kind))


def declared(message: Message) -> dict[str, object]:
    """What a reply says that is neither paid for nor a coin; heads by their length alone."""
    names = WHAT_LEAVES[type(message)]["declared"].split()
    values = {name: getattr(message, name) for name in names}
    if "ledger_head" in values:
        values["ledger_head"] = values["ledger_head"].length
    # It hashes the times of decisions; how many there were is compared.
    values.pop("audit_head", None)
    return values


@FEW
@given(
    order=st.lists(st.integers(0, 9), max_size=8),
    keep=st.integers(60, 160),
    chol=st.floats(100, 400),
)
def test_9_what_is_declared_does_not_depend_on_a_single_record(
    start: Callable[[], OneSite], order: list[int], keep: int, chol: float
) -> None:
    site, other = start(), start()
    records = other.directory / "datasets.d" / "records.csv"
    header, *lines = records.read_text().splitlines()
    changed = [f"{20 + row % 70},{chol:.1f},south,{row % 5},p{row // 3}" for row in range(keep)]
    assert changed != lines
    records.write_text("\n".join([header, *changed]) + "\n")
    other.open()
    job = make_job(MOMENTS_JOB)
    requests: Sequence[Message] = [
        Inquire("run-1", site.admit(job=job).job),
        site.admit("run-2", job),
        round_plan(9, job=job),
        round_plan(1, value=1e30, job=job),
        *releases(job),
        Describe("run-1", site.admit(job=job).job),
    ]
    for request in [site.admit(job=job), *(requests[place] for place in order), settle(job=job)]:
        ours, theirs = site.ask(request), other.ask(request)
        assert type(ours) is type(theirs)
        assert declared(ours) == declared(theirs)


# ---------------------------------------------------------------- the table above


def test_what_proves_the_rest_is_there() -> None:
    named = re.findall(r"(test_\w+)::(test_\w+)", __doc__ or "")
    assert len(named) >= 10
    for module, test in named:
        (path,) = TESTS.glob(f"*/{module}.py")
        assert f"def {test}(" in path.read_text() or f"{test} =" in path.read_text(), test
