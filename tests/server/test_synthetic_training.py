"""Training on synthetic rows: it learns, it repeats itself, and it says when it cannot."""

import numpy as np
import numpy.typing as npt
import pytest

from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector, LogisticSpec, MlpSpec, parameter_count
from sordino_protocols.plan import LossName
from sordino_server.synthetic_training import train_on_rows

Floats = npt.NDArray[np.float32]
SEED = b"a public digest"
LOGISTIC = LogisticSpec(kind="logistic")


def rows_of(count: int = 600, *, seed: int = 3) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    return features, (features[:, 0] - 0.5 * features[:, 1]).astype(np.float32)


def trained(
    features: Floats,
    labels: Floats,
    *,
    loss: LossName = "binary",
    spec: LogisticSpec | MlpSpec = LOGISTIC,
    learning_rate: float = 0.05,
    seed: bytes = SEED,
    epochs: int = 20,
) -> FloatVector:
    return train_on_rows(
        spec,
        features,
        labels,
        loss=loss,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=64,
        seed=seed,
    )


def test_a_model_learns_what_the_rows_say() -> None:
    features, scores = rows_of()
    weights = trained(features, (scores > 0).astype(np.float32))
    fresh, wanted = rows_of(seed=4)
    logits = fresh @ weights[:3] + weights[3]
    assert np.mean((logits > 0) == (wanted > 0)) > 0.97
    # Wrong labels teach the opposite: the test can fail.
    opposite = trained(features, (scores <= 0).astype(np.float32))
    assert np.mean((fresh @ opposite[:3] + opposite[3] > 0) == (wanted > 0)) < 0.03


def test_numbers_and_classes_are_learnt_too() -> None:
    features, scores = rows_of()
    line = trained(features, scores, loss="squared")
    assert np.allclose(line, [1, -0.5, 0, 0], atol=0.02)
    classes = np.digitize(scores, [-0.4, 0.4]).astype(np.float32)
    three = LogisticSpec(kind="logistic", outputs=3)
    weights = trained(features, classes, loss="cross_entropy", spec=three, epochs=60)
    logits = features @ weights[:9].reshape(3, 3).T + weights[9:]
    assert np.mean(logits.argmax(axis=1) == classes) > 0.9


def test_the_same_job_and_rows_give_the_same_model() -> None:
    features, scores = rows_of()
    labels = (scores > 0).astype(np.float32)
    spec = MlpSpec(kind="mlp", hidden=(4,), activation="tanh")
    first, again = (trained(features, labels, spec=spec, epochs=2) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert len(first) == parameter_count(spec, 3)
    other = trained(features, labels, spec=spec, epochs=2, seed=b"another")
    assert not np.array_equal(first, other)


def test_it_says_when_there_is_nothing_to_learn_from_or_when_it_diverges() -> None:
    features, scores = rows_of()
    with pytest.raises(InputError, match="no synthetic rows"):
        trained(features[:0], scores[:0])
    with pytest.raises(InputError, match=r"lower synthetic\.learning_rate"):
        trained(features, scores * np.float32(1e30), loss="squared", learning_rate=1e30)
