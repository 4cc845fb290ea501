import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino.toml_text import toml_text

_texts = st.text(st.characters(exclude_categories=["Cs"]))
_scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.times(),
    _texts,
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)
_tables = st.dictionaries(_texts, st.dictionaries(_texts, _values, max_size=4), max_size=4)


@given(tables=_tables)
def test_reads_back_as_what_it_was_made_from(tables: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(toml_text(tables, comments=["a comment", ""])) == tables


def test_looks_like_what_a_person_writes() -> None:
    tables: dict[str, dict[str, object]] = {
        "model": {"kind": "mlp", "hidden": [8, 4], "embeddings": [{"start": 1}, {"start": 3}]},
        "optimizer": {"learning_rate": 0.5, "average_decay": None},
    }
    assert toml_text(tables, comments=["Tuned."]) == (
        "# Tuned.\n\n"
        '[model]\nkind = "mlp"\nhidden = [8, 4]\nembeddings = [\n  { start = 1 },\n'
        "  { start = 3 },\n]\n\n"
        "[optimizer]\nlearning_rate = 0.5\n"
    )


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), 1j])
def test_refuses_what_toml_cannot_spell(value: object) -> None:
    with pytest.raises(TypeError, match="TOML cannot spell"):
        toml_text({"table": {"key": [value]}})
