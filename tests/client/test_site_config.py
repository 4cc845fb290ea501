from pathlib import Path

import pytest
from one_site import OneSite
from typer.testing import CliRunner

from sordino_client.cli import site_app
from sordino_client.config import load_config
from sordino_client.synthesis.mask_keys import load_mask_keys
from sordino_protocols.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    OneSite(tmp_path).prepare()
    return tmp_path / "site.toml"


def test_a_site_trains_on_its_processor_unless_it_says_otherwise(file: Path) -> None:
    training = load_config(file).training
    assert (training.device, training.compile) == ("cpu", False)
    file.write_text(file.read_text() + '[training]\ndevice = "cuda"\ncompile = true\n')
    training = load_config(file).training
    assert (training.device, training.compile) == ("cuda", True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('device = "gpu"', "training.device: should be 'cpu' or 'cuda'"),
        ("compile = 1", "training.compile: should be a valid boolean"),
        ('devise = "cpu"', "did you mean 'device'?"),
        ("noise = 0.0", "training.noise: unknown key"),
    ],
)
def test_a_typo_is_an_error(file: Path, line: str, says: str) -> None:
    file.write_text(f"{file.read_text()}[training]\n{line}\n")
    with pytest.raises(InputError) as caught:
        load_config(file)
    assert says in str(caught.value)


def test_the_documented_file_is_one(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    start = text.index("[site]")
    (tmp_path / "site.toml").write_text(text[start : text.index("```", start)])
    config = load_config(tmp_path / "site.toml")
    assert config.site.name == "cleveland"
    assert config.training.device == "cpu"


def test_what_people_need_has_places_beside_the_state(tmp_path: Path) -> None:
    OneSite(tmp_path).prepare()
    config = load_config(tmp_path / "site.toml")
    assert config.approvers == tmp_path / "approvers"
    assert config.admin_socket == tmp_path / "state" / "admin.sock"
    assert config.audit_log_path == tmp_path / "state" / "audit.log"
    assert config.site.ledger_url_file is None


def test_a_site_takes_part_in_sums_only_with_a_key_and_peers_have_a_place(file: Path) -> None:
    config = load_config(file)
    assert config.site.mask_key is None
    assert config.peers == file.parent / "peers"
    file.write_text(
        file.read_text().replace("[link]", 'mask_key = "keys/m.key"\npeers = "friends"\n[link]')
    )
    config = load_config(file)
    assert config.site.mask_key == file.parent / "keys" / "m.key"
    assert config.peers == file.parent / "friends"


def test_the_command_makes_a_pair_that_can_be_read_and_says_where_it_goes(file: Path) -> None:
    made = CliRunner().invoke(site_app, ["mask-key", "--config", str(file)])
    assert made.exit_code == 0
    keys = file.parent / "keys"
    (file.parent / "peers").mkdir()
    secret = keys / "cleveland.mask.key"
    assert str(secret) in made.output.replace("\n", "")
    assert load_mask_keys(secret, file.parent / "peers", site="cleveland").peers == {}
