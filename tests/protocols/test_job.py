import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_job import TEXT, read_file

from sordino_protocols.errors import AuthenticationError, InputError, PeerError
from sordino_protocols.job import Job, SignedJob, read_job, sign_job, verify_job
from sordino_protocols.models import MlpSpec
from sordino_protocols.pricing import price, resolve
from sordino_protocols.privacy import Composed, DiscreteGaussian, PoissonGaussian
from sordino_protocols.signing import Signer, TrustStore, canonical_json

NONCE = "0" * 32
SUBMITTER = Signer("scientist", Ed25519PrivateKey.generate())
TRUST = TrustStore({"scientist": SUBMITTER.key.public_key()})


@pytest.fixture(scope="module")
def job() -> Job:
    return resolve(read_file())


# --- the noise ----------------------------------------------------------------------------------


def test_the_noise_costs_what_the_file_says_and_no_more(job: Job) -> None:
    cost = price(job)
    assert 4.0 * (1 - 1e-3) <= cost.epsilon_pld <= 4.0
    assert cost.epsilon_pld < cost.epsilon_rdp
    assert cost.delta == 1e-5
    assert job.plan.event == Composed(
        (
            PoissonGaussian(1.0, job.plan.require_training().noise_multiplier, 60),
            DiscreteGaussian(job.plan.require_evaluation().noise_multiplier),
        )
    )


def test_a_job_that_costs_more_than_it_declares_is_unpriceable(job: Job) -> None:
    noise_multiplier = job.plan.require_training().noise_multiplier
    weaker = job.model_copy(update={"training_noise_multiplier": noise_multiplier / 2})
    with pytest.raises(InputError, match="more than the declared 4"):
        price(weaker)


def test_a_job_without_noise_to_speak_of_is_refused_before_it_is_priced_tightly(job: Job) -> None:
    # The tight price would take a minute and a gigabyte of the vault's, for a job like this one.
    training = job.file.require_training().model_copy(update={"sampling_rate": 0.5})
    file = job.file.model_copy(update={"training": training})
    loud = job.model_copy(update={"file": file, "training_noise_multiplier": 1e-3})
    with pytest.raises(InputError, match="far more than the declared 4"):
        price(loud)


def test_statistics_are_paid_for_by_less_noise_for_nobody_else(job: Job) -> None:
    with_statistics = resolve(read_file(TEXT + '[statistics]\nkind = "moments"\nshare = 0.2\n'))
    cost = price(with_statistics)
    assert 4.0 * (1 - 1e-3) <= cost.epsilon_pld <= 4.0
    with_less, before = with_statistics.plan.require_training(), job.plan.require_training()
    assert with_less.noise_multiplier > before.noise_multiplier
    assert with_statistics.evaluation_noise_multiplier == job.evaluation_noise_multiplier


@pytest.mark.parametrize(("statistics", "noise"), [("", 5.0), ('kind = "moments"', None)])
def test_the_noise_of_statistics_goes_with_statistics(statistics: str, noise: float | None) -> None:
    file = read_file(TEXT + (f"[statistics]\n{statistics}\n" if statistics else ""))
    with pytest.raises(ValidationError, match=r"statistics_noise_multiplier goes with"):
        Job(
            version=2,
            file=file,
            training_noise_multiplier=3.0,
            evaluation_noise_multiplier=7.0,
            statistics_noise_multiplier=noise,
        )


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
        version=2, file=read_file(), training_noise_multiplier=9.5, evaluation_noise_multiplier=20.0
    )
    assert pinned.digest() == "12162cf9e0946fd6f386971929f092d5b824d0eea9de305526709e8d7d0c3c0b"


def test_every_field_has_a_part_in_the_digest(job: Job) -> None:
    changed = [
        TEXT.replace("heart-risk", "heart-rate"),
        TEXT.replace("[privacy]", 'columns = ["age"]\n[privacy]'),
        TEXT.replace('"va"]', '"hungarian"]'),
        TEXT.replace("clipping_norm = 0.5", "clipping_norm = 0.50001"),
        TEXT.replace("learning_rate = 2.0", "learning_rate = 2.0\nmomentum = 0.5"),
        TEXT + "[audit]\nlanes = 7\n",
        TEXT + "[evaluation]\nbins = 12\n",
        TEXT.replace("learning_rate = 2.0", "learning_rate = 2.0\naverage_decay = 0.5"),
        TEXT.replace("learning_rate = 2.0", "learning_rate = 2.0\nweight_decay = 0.5"),
        TEXT.replace("learning_rate = 2.0", "learning_rate = 2.0\nschedule = {warmup = 0.5}"),
        TEXT.replace("learning_rate = 2.0", 'learning_rate = 2.0\nkind = "adam"'),
        TEXT.replace("[training]", '[training]\nupdate = "delta"'),
        TEXT.replace("[training]", '[training]\nloss = "squared"'),
        TEXT.replace("[training]", '[training]\nclipping = {kind = "per_layer"}'),
        TEXT.replace("[training]", "[training]\nlocal_optimizer = {momentum = 0.5}"),
        TEXT.replace("[training]", "[training]\naugmentation = {image = [1, 2, 2], views = 2}"),
        TEXT.replace('unit = "record"', 'unit = "entity"'),
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
    job = Job(version=2, file=file, training_noise_multiplier=3.25, evaluation_noise_multiplier=7.5)
    elsewhere = read_job(job.canonical())
    assert elsewhere.plan == job.plan
    assert elsewhere.plan.event == job.plan.event
    assert elsewhere.plan.lanes == lanes


def test_a_lane_has_a_coordinate_for_each_layer_with_weights() -> None:
    deep = 'kind = "mlp"\nhidden = [8, 4]\nactivation = "tanh"'
    text = TEXT.replace('kind = "logistic"', deep) + "[audit]\nlanes = 7\n"
    job = Job(
        version=2,
        file=read_file(text),
        training_noise_multiplier=3.25,
        evaluation_noise_multiplier=7.5,
    )
    assert job.plan.require_training().lane_groups == 3
    assert (job.plan.lanes, job.plan.extra_coordinates) == (7, 21)


@pytest.mark.parametrize(
    "spell",
    [
        lambda raw: json.dumps(raw).encode(),
        lambda raw: canonical_json(raw) + b"\n",
        lambda raw: b" " + canonical_json(raw),
        lambda raw: canonical_json(raw).replace(b'"version":2', b'"version":2,"version":2'),
        lambda raw: canonical_json(raw).replace(b"4.0", b"4"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"4.00"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"NaN"),
        lambda raw: canonical_json(raw).replace(b"4.0", b"1e999"),
        lambda raw: canonical_json(raw | {"version": 1}),
        lambda raw: canonical_json(raw | {"version": 3}),
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
    assert verify_job(signed, TRUST).file.require_model() == MlpSpec(
        kind="mlp", hidden=(8, 4), activation="tanh"
    )
