"""What a person reads of a job that synthesizes or counts, before saying yes or no."""

import re
from pathlib import Path

import pytest
from one_site import ASKING, DATASET, POLICY, SCHEMA, OneSite, refusal
from small_job import read_file

from sordino_client.approval_text import approval_text
from sordino_client.approval_words import leaving_words, work_words
from sordino_client.data.declaration import DatasetFile
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.job_sections import SynthesisSection
from sordino_protocols.messages import Refusal
from sordino_protocols.pricing import resolve
from sordino_protocols.synthesis.domain import domain_of

DECLARED = parse_toml(SCHEMA, DatasetFile, source="heart.toml").public
PRIVACY = '[privacy]\nunit = "record"\nepsilon = 3\ndelta = 1e-5\n'


def synthesis(section: str, cohort: str = "") -> Job:
    head = f'[job]\nname = "small"\nkind = "synthesize"\ndataset = "{DATASET}"\n{PRIVACY}'
    file = read_file(f"{head}[synthesis]\n{section}\n{cohort}")
    known = {"schema_sha256": DECLARED.synthesis_digest(), "shape": domain_of(DECLARED).shape}
    written = file.require_synthesis().model_dump(exclude=set(known))
    filled = SynthesisSection.model_validate(written | known)
    return resolve(file.model_copy(update={"synthesis": filled}))


def count(queries: str) -> Job:
    head = f'[job]\nname = "small"\nkind = "count"\ndataset = "{DATASET}"\n{PRIVACY}'
    return resolve(read_file(head + queries))


def words(job: Job) -> str:
    return "\n".join([*work_words(job), *leaving_words(job, DECLARED)])


def test_marginals_are_numbered_and_counted() -> None:
    # 4 columns: 4 and 6 marginals; 71 + 100 + 5 + 3 fine cells, and pairs of 16, 16, 5 and 3.
    shown = words(synthesis('mode = "local"'))
    assert "synthesize on heart, columns: all" in shown
    assert "generator mixture, mode local" in shown
    assert "10 noisy marginals, 706 counts in all, once" in shown


def test_a_sum_says_who_may_be_silent_and_what_the_site_pays_for() -> None:
    cohort = '[cohort]\nsites = ["a", "b", "cleveland"]\nquorum = 2\n'
    job = synthesis('mode = "sum"\nsilent = 1', cohort)
    shown, plan = words(job), job.plan.require_synthesis()
    assert "the sum of 3 sites' noisy marginals, of which 1 may stay silent" in shown
    # Of three sites one may be silent, so two shares of the noise are what the sum is paid for.
    assert plan.released_marginals[0].noise_std < plan.marginals[0].noise_std
    (hidden,) = re.findall(r"the sum alone costs epsilon ([0-9.]+),", shown)
    assert 1.5 < float(hidden) < 2.5
    assert "pays for its own noise alone" in shown
    assert "under masks that vanish in the sum" in shown
    assert "sites: a, b, cleveland" in shown


def test_rows_are_said_to_be_rows() -> None:
    assert "30 synthetic records, of 4 whole numbers each, once" in words(
        synthesis('mode = "table"\nrows = 30')
    )
    assert "as many synthetic records as there seem to be units" in words(
        synthesis('mode = "table"')
    )


def test_each_query_is_shown_with_its_conditions_and_none_moves_the_cursor() -> None:
    query = (
        '[[counting.queries]]\nname = "q{0}"\nwhere = {{ age = ">= 30", ward = "a\\u001b[2Jb" }}\n'
    )
    shown = words(count("".join(query.format(index) for index in range(25))))
    assert r"count q0: 'age' '>= 30'; 'ward' 'a\x1b[2Jb'" in shown
    assert "\x1b" not in shown
    assert "count q19" in shown
    assert "count q20" not in shown
    assert "and 5 queries more" in shown
    assert "25 noisy counts, once" in shown


def test_items_of_sets_are_shown() -> None:
    query = '[[counting.queries]]\nname = "q"\nwhere.towers = { any = ["n", "s"], none = ["w"] }\n'
    assert "count q: 'towers' any of ['n', 's'], none of ['w']" in words(count(query))


@pytest.fixture
def asking(tmp_path: Path) -> OneSite:
    site = OneSite(tmp_path, policy=POLICY.replace('["train"]', '["synthesize"]') + ASKING)
    site.prepare()
    return site


def test_a_synthesis_waits_for_people_who_see_what_it_is(asking: OneSite) -> None:
    asking.open()
    assert refusal(asking.ask(asking.admit(job=synthesis('mode = "local"')))) is (
        Refusal.APPROVAL_PENDING
    )
    text = approval_text(asking.desk.shown("run-1"))
    assert "10 noisy marginals, 706 counts in all, once" in text
    assert "epsilon 3 at delta 1e-05" in text or "epsilon 2.99" in text
    asking.close()
