"""Where keys stand in TOML text: compared with what tomllib reads, and with the text itself."""

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import InputError
from sordino_protocols.toml_positions import Place, line_numbers, line_of

TRICKY = (
    '''\
# a comment with [brackets] = and "quotes"
top = """one
[not.a.table]
key = 1 \\
""\\""""""
dotted.inner . "quoted.key" = 'a # b'

[table]   # comment
list = [ # one
  1,
  [2, 3],  # ] not yet
  {a = 1, b.c = "}"},
]
inline = { x = { y = [1,
2] }, 'lit' = \'\'\'it's '''
    "'''"
    ''' }
"" = 1
[[rows]]
a = 1979-05-27T07:32:00Z
[rows.sub]
b = 07:32:00
[[rows]]
a = -inf
[[rows.deep]]
c = """"quoted""""
[implied.by.name]
z = 1
[implied]
y = 2
'''
)


def places(value: object, here: Place = ()) -> set[Place]:
    match value:
        case dict():
            below = [places(each, (*here, key)) for key, each in value.items()]
        case list():
            below = [places(each, (*here, index)) for index, each in enumerate(value)]
        case _:
            below = []
    return {here, *(place for each in below for place in each)}


def test_every_kind_of_key_is_found_on_its_line() -> None:
    lines = line_numbers(TRICKY)
    assert set(lines) == places(tomllib.loads(TRICKY)) - {()}
    wanted: dict[Place, str] = {
        ("top",): "top =",
        ("dotted",): "dotted.",
        ("dotted", "inner", "quoted.key"): "dotted.",
        ("table",): "[table]",
        ("table", "list"): "list =",
        ("table", "list", 0): "  1,",
        ("table", "list", 1, 1): "  [2, 3]",
        ("table", "list", 2, "b", "c"): "  {a",
        ("table", "inline", "x", "y", 1): "2] }",
        ("table", "inline", "lit"): "2] }",
        ("table", ""): '"" =',
        ("rows", 0, "sub", "b"): "b = 07",
        ("rows", 1): "[[rows]]",
        ("rows", 1, "deep", 0, "c"): 'c = """',
        ("implied", "by"): "[implied.by",
        ("implied",): "[implied]",
    }
    text = TRICKY.split("\n")
    for place, start in wanted.items():
        assert text[lines[place] - 1].startswith(start), place
    assert lines["rows",] < lines["rows", 1]


keys = st.text(max_size=6) | st.sampled_from(["a", "b", "a.b", "x y", '"', "'", "#", "[", "é"])
scalars = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.text(max_size=20)
    | st.sampled_from(["a\nb", '"""', "'''", "\\", "]", "}", "# no", "a\r\nb", "[t]\nk = 1\n"])
    | st.datetimes()
    | st.dates()
    | st.times()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(keys, values, max_size=5), multiline=st.booleans())
def test_all_that_tomllib_reads_is_located_and_nothing_else(
    *, document: dict[str, object], multiline: bool
) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    lines = line_numbers(text)
    assert set(lines) == places(tomllib.loads(text)) - {()}
    rows = text.split("\n")
    for place, line in lines.items():
        key = next(step for step in reversed(place) if isinstance(step, str))
        spelled = tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
        if isinstance(place[-1], str):
            assert spelled in rows[line - 1]
        around = lines.get(place[:-1], 1)
        assert around <= line <= len(rows)


@given(document=st.dictionaries(keys, values, max_size=4), blank=st.integers(0, 5))
def test_lines_move_with_the_text(document: dict[str, object], blank: int) -> None:
    text = tomli_w.dumps(document)
    moved = line_numbers("# remark\n" * blank + text.replace("\n", "\r\n"))
    unchanged = line_numbers(text)
    assert moved == {place: line + blank for place, line in unchanged.items()}


@given(text=st.text(alphabet="[]{}=\"'.#\\\n\r\t ,abc012-_:TZ", max_size=60))
def test_any_text_is_located_or_refused(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(InputError, match="not valid TOML"):
            line_numbers(text)
    else:
        assert set(line_numbers(text)) == places(document) - {()}


def test_a_key_that_is_not_there_is_looked_for_in_its_table() -> None:
    lines = line_numbers("a = 1\n[t]\nb = 2\n")
    assert line_of(lines, ("t", "b")) == 3
    assert line_of(lines, ("t", "missing")) == 2
    assert line_of(lines, ("t", "missing", 0)) == 2
    assert line_of(lines, ("missing",)) is None
