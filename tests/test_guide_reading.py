"""The reader of guides: what is typed, where, in which order; a wrong answer is noticed."""

import os
from pathlib import Path

import pytest
from guides import Command, Host, WrittenFile, blocks, perform, story, unanswered

GUIDE = """\
# A guide

```console step=20
site# cat /etc/thing/a.txt
# /etc/thing/a.txt
one
site# echo fingerprint 00aa:11bb; \\
echo done
fingerprint …
done
```

```toml step=10 host=site
# /etc/thing/a.txt
one
two
```

```text
not typed
```
"""


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    path = tmp_path / "guide.md"
    path.write_text(GUIDE)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Host:
    return Host("site", {"/etc/thing": str(tmp_path / "thing")}, {"PATH": os.defpath})


def test_files_and_commands_come_in_the_order_of_their_steps(guide: Path) -> None:
    file, cat, echo = story([guide])
    assert file == WrittenFile(
        "site", "/etc/thing/a.txt", "# /etc/thing/a.txt\none\ntwo\n", "guide.md:14"
    )
    assert cat == Command(
        "site", "cat /etc/thing/a.txt", ("# /etc/thing/a.txt", "one"), "guide.md:4"
    )
    assert isinstance(echo, Command)
    assert echo.text.splitlines() == ["echo fingerprint 00aa:11bb; \\", "echo done"]
    assert len(blocks(guide)) == 2


def test_a_story_is_performed_and_a_fingerprint_is_told(guide: Path, site: Host) -> None:
    with site:
        perform(story([guide]), {"site": site})
        assert site.run("echo $TOLD", seconds=60) == (0, "00aa:11bb\n\n")


@pytest.mark.parametrize(
    ("typed", "expected", "says"),
    [("echo one", ("two",), "no line 'two'"), ("false", (), "exit code 1")],
)
def test_what_is_not_as_the_guide_says_is_noticed(
    site: Host, typed: str, expected: tuple[str, ...], says: str
) -> None:
    with site, pytest.raises(AssertionError, match=says):
        perform([Command("site", typed, expected, "guide.md:1")], {"site": site})


def test_a_command_that_does_not_end_is_given_up(site: Host) -> None:
    with site, pytest.raises(AssertionError, match=r"no end after 0\.5 s"):
        site.run("sleep 1000", seconds=0.5)


def test_what_was_left_running_is_ended(site: Host) -> None:
    with site:
        _, output = site.run("sleep 1000 > /dev/null 2>&1 & echo $!", seconds=60)
    assert not Path(f"/proc/{int(output)}").exists()


@pytest.mark.parametrize(
    ("expected", "missing"),
    [
        (("a b",), None),
        (("a",), "a"),
        (("a …", "c d"), None),
        (("c d", "a b"), "a b"),
        (("… b", "… d"), None),
        ((), None),
    ],
)
def test_lines_are_looked_for_in_their_order(
    expected: tuple[str, ...], missing: str | None
) -> None:
    assert unanswered(expected, "a   b\nnoise\n  c d\n") == missing
