import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import AuthenticationError, ExitCode, InputError, PeerError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile, SignedJob, read_job, sign_job, verify_job
from sordino_protocols.models import MlpSpec
from sordino_protocols.pricing import price, resolve
from sordino_protocols.privacy import Composed, Gaussian, PoissonGaussian
from sordino_protocols.signing import Signer, TrustStore, canonical_json

NONCE = "0" * 32
TEXT = """
[job]
name = "heart-risk"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 4
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = 30
local_steps = 2
sampling_rate = 1
clipping_norm = 0.5
[optimizer]
learning_rate = 2.0
[cohort]
sites = ["cleveland", "va"]
quorum = 2
"""
SUBMITTER = Signer("scientist", Ed25519PrivateKey.generate())
TRUST = TrustStore({"scientist": SUBMITTER.key.public_key()})


def read_file(text: str = TEXT) -> JobFile:
    return parse_toml(text, JobFile, source="job.toml")


def problem(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_file(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


@pytest.fixture(scope="module")
def job() -> Job:
    return resolve(read_file())


# --- the file -----------------------------------------------------------------------------------


def test_a_file_is_what_it_says() -> None:
    file = read_file()
    assert file.guarantee.epsilon == 4.0
    assert file.cohort.sites == ("cleveland", "va")
    assert file.training_plan(3.0).event == PoissonGaussian(1.0, 3.0, 60)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epsilon = 4", "epsilom = 4", "privacy.epsilom: unknown key; did you mean 'epsilon'?"),
        ("epsilon = 4\n", "", "privacy.epsilon: missing"),
        ("delta = 1e-5\n", "", "privacy.delta: missing"),
        ("clipping_norm = 0.5\n", "", "training.clipping_norm: missing"),
        ("sampling_rate = 1\n", "", "training.sampling_rate: missing"),
        ("[optimizer]\nlearning_rate = 2.0\n", "", "optimizer: missing"),
        ("epsilon = 4", 'epsilon = "4"', "privacy.epsilon: should be a valid number"),
        ("epsilon = 4", "epsilon = true", "privacy.epsilon: should be a valid number"),
        ("epsilon = 4", "epsilon = nan", "privacy.epsilon: must be finite"),
        ("epsilon = 4", "epsilon = 0", "privacy.epsilon: should be greater than 0"),
        ("epsilon = 4", "epsilon = 101", "privacy.epsilon: should be less than or equal to 100"),
        ("delta = 1e-5", "delta = 0.1", "privacy.delta: should be less than or equal to 0.01"),
        ("rounds = 30", "rounds = 30.0", "training.rounds: should be a valid integer"),
        ("rounds = 30", "rounds = 0", "training.rounds: should be greater than or equal to 1"),
        ("sampling_rate = 1", "sampling_rate = 1.1", "training.sampling_rate: should be less"),
        ("clipping_norm = 0.5", "clipping_norm = inf", "training.clipping_norm: must be finite"),
        ('kind = "train"', 'kind = "shell"', "job.kind: should be 'train'"),
        ('unit = "record"', 'unit = "nobody"', "privacy.unit: should be 'record'"),
        ('kind = "logistic"', 'kind = "pickle"', "model.kind: must be one of 'logistic', 'mlp'"),
        ('dataset = "heart"', 'dataset = "../heart"', "job.dataset: string should match pattern"),
        ('name = "heart-risk"', 'name = "Heart"', "job.name: string should match pattern"),
        ('"va"]', '"cleveland"]', "cohort: sites must not repeat a name"),
        ("quorum = 2", "quorum = 3", "cohort: quorum must be at most the number of sites"),
        ("[cohort]", "[cohorts]", "cohorts: unknown key; did you mean 'cohort'?"),
        ("[job]", "command = 'sh'\n[job]", "command: unknown key"),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_expectation(
    old: str, new: str, expected: str
) -> None:
    assert TEXT.count(old) == 1
    message = problem(TEXT.replace(old, new))
    assert f"job.toml: {expected}" in message


@pytest.mark.parametrize("hidden", ["[5.0]", '["5"]', "[true]", "[]", "5"])
def test_the_widths_of_a_model_are_whole_numbers(hidden: str) -> None:
    model = f'kind = "mlp"\nactivation = "tanh"\nhidden = {hidden}'
    assert "model.hidden" in problem(TEXT.replace('kind = "logistic"', model))


# --- the noise ----------------------------------------------------------------------------------


def test_the_noise_costs_what_the_file_says_and_no_more(job: Job) -> None:
    cost = price(job)
    assert 4.0 * (1 - 1e-3) <= cost.epsilon_pld <= 4.0
    assert cost.epsilon_pld < cost.epsilon_rdp
    assert cost.delta == 1e-5
    assert job.plan.event == Composed(
        (
            PoissonGaussian(1.0, job.training_noise_multiplier, 60),
            Gaussian(job.evaluation_noise_multiplier),
        )
    )


def test_a_job_that_costs_more_than_it_declares_is_unpriceable(job: Job) -> None:
    weaker = job.model_copy(update={"training_noise_multiplier": job.training_noise_multiplier / 2})
    with pytest.raises(InputError, match="more than the declared 4"):
        price(weaker)


def test_a_job_without_noise_to_speak_of_is_refused_before_it_is_priced_tightly(job: Job) -> None:
    # The tight price would take a minute and a gigabyte of the vault's, for a job like this one.
    training = job.file.training.model_copy(update={"sampling_rate": 0.5})
    file = job.file.model_copy(update={"training": training})
    loud = job.model_copy(update={"file": file, "training_noise_multiplier": 1e-3})
    with pytest.raises(InputError, match="far more than the declared 4"):
        price(loud)


def test_an_evaluation_that_would_drown_in_noise_is_refused() -> None:
    with pytest.raises(InputError, match=r"raise evaluation\.share"):
        resolve(read_file(TEXT + "[evaluation]\nshare = 1e-13\n"))


# --- the canonical form -------------------------------------------------------------------------


def test_the_canonical_form_is_stable(job: Job) -> None:
    again = resolve(read_file(TEXT.replace("epsilon = 4", "epsilon = 4.0 # the same")))
    assert again.canonical() == job.canonical()
    assert read_job(job.canonical()) == job
    assert read_job(job.canonical()).digest() == job.digest()


def test_the_digest_is_this() -> None:
    # Pinned: a silent change of spelling would part servers and sites of two versions.
    pinned = Job(
        version=1, file=read_file(), training_noise_multiplier=9.5, evaluation_noise_multiplier=20.0
    )
    assert pinned.digest() == "a75058e4d71bb71ff1bb72fc70a3018814caea47fffb9aeaf5e949445847c775"


def test_every_field_has_a_part_in_the_digest(job: Job) -> None:
    changed = [
        TEXT.replace("heart-risk", "heart-rate"),
        TEXT.replace('"va"]', '"hungarian"]'),
        TEXT.replace("clipping_norm = 0.5", "clipping_norm = 0.50001"),
        TEXT.replace("learning_rate = 2.0", "learning_rate = 2.0\nmomentum = 0.5"),
        TEXT + "[audit]\nlanes = 7\n",
        TEXT + "[evaluation]\nbins = 12\n",
    ]
    digests = {
        job.model_copy(update={"file": read_file(text)}).digest() for text in (TEXT, *changed)
    }
    assert len(digests) == len(changed) + 1


@given(rounds=st.integers(1, 10_000), rate=st.floats(0.001, 1), lanes=st.integers(0, 100))
def test_the_plan_is_a_function_of_the_canonical_bytes(
    rounds: int, rate: float, lanes: int
) -> None:
    text = TEXT.replace("rounds = 30", f"rounds = {rounds}")
    text = text.replace("sampling_rate = 1", f"sampling_rate = {rate!r}")
    file = read_file(text + f"[audit]\nlanes = {lanes}\n")
    job = Job(version=1, file=file, training_noise_multiplier=3.25, evaluation_noise_multiplier=7.5)
    elsewhere = read_job(job.canonical())
    assert elsewhere.plan == job.plan
    assert elsewhere.plan.event == job.plan.event
    assert elsewhere.plan.training.lanes == lanes


@pytest.mark.parametrize(
    "spell",
    [
        lambda raw: json.dumps(raw).encode(),
        lambda raw: canonical_json(raw) + b"\n",
        lambda raw: b" " + canonical_json(raw),
        lambda raw: canonical_json(raw).replace(b'"version":1', b'"version":1,"version":1'),
        lambda raw: canonical_json(raw).replace(b"4.0", b"4"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"4.00"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"NaN"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"1e999"),
        lambda raw: canonical_json(raw | {"version": 2}),
        lambda raw: canonical_json(raw | {"surplus": 1}),
        lambda raw: canonical_json({"file": raw["file"]}),
        lambda raw: canonical_json(raw | {"training_noise_multiplier": 0.0}),
        lambda raw: canonical_json(raw | {"training_noise_multiplier": "9"}),
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"\xff\xfe{}",
        lambda _: b"[" * 100_000,
        lambda _: b"9" * 100_000,
    ],
)
def test_bytes_that_are_no_job_or_another_spelling_are_refused(
    job: Job, spell: Callable[[dict[str, object]], bytes]
) -> None:
    with pytest.raises(PeerError) as caught:
        read_job(spell(json.loads(job.canonical())))
    assert caught.value.__cause__ is None


# --- the signature ------------------------------------------------------------------------------


def test_a_signed_job_is_read_by_whoever_trusts_its_submitter(job: Job) -> None:
    signed = sign_job(job, SUBMITTER, purpose="train", nonce=NONCE)
    assert verify_job(signed, TRUST) == job
    assert signed.digest == job.digest()


def test_a_signature_of_somebody_else_is_refused(job: Job) -> None:
    stranger = Signer("stranger", Ed25519PrivateKey.generate())
    impostor = Signer("scientist", Ed25519PrivateKey.generate())
    for signer in (stranger, impostor):
        with pytest.raises(AuthenticationError):
            verify_job(sign_job(job, signer, purpose="train", nonce=NONCE), TRUST)


def test_a_signature_holds_for_these_bytes_and_this_purpose_only(job: Job) -> None:
    signed = sign_job(job, SUBMITTER, purpose="train", nonce=NONCE)
    other = job.model_copy(update={"training_noise_multiplier": 1.0}).canonical()
    without_context = SUBMITTER.sign(signed.body)
    for forged in (
        replace(signed, body=other),
        replace(signed, signature=without_context),
        replace(signed, purpose="price"),
        replace(signed, nonce="f" * 32),
    ):
        with pytest.raises(AuthenticationError):
            verify_job(forged, TRUST)


def test_who_signed_is_asked_before_a_byte_is_read() -> None:
    # Garbage of a stranger is a stranger's; the reader of jobs never sees it.
    with pytest.raises(AuthenticationError):
        verify_job(SignedJob(b"[" * 100, "scientist", bytes(64), "train", NONCE), TRUST)
    signature = SUBMITTER.sign(f"sordino/job/1\ntrain\n{NONCE}\n[[[".encode())
    with pytest.raises(PeerError):
        verify_job(SignedJob(b"[[[", "scientist", signature, "train", NONCE), TRUST)


def test_a_model_stays_the_one_that_was_signed(job: Job) -> None:
    mlp = 'kind = "mlp"\nhidden = [8, 4]\nactivation = "tanh"'
    file = read_file(TEXT.replace('kind = "logistic"', mlp))
    signed = sign_job(
        job.model_copy(update={"file": file}), SUBMITTER, purpose="train", nonce=NONCE
    )
    assert verify_job(signed, TRUST).file.model == MlpSpec(
        kind="mlp", hidden=(8, 4), activation="tanh"
    )
