"""The demonstration's records: heart disease at four hospitals (see ATTRIBUTION.md).

The files are public, so nothing here needs protection; they stand for records that would.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType

from sordino_protocols.files import write_public

ORDERS_OF_MAGNITUDE: Mapping[str, int] = MappingProxyType(
    {"cleveland": 300, "hungarian": 300, "switzerland": 100, "va": 200}
)
"""The four sites, with the public size that each declares."""


def write_dataset(site: str, directory: Path) -> Path:
    """Write a hospital's records and their declaration into `directory`.

    Returns:
        the declaration, `heart.toml`, which names the records beside it, `<site>.csv`.

    Raises:
        KeyError: `site` is none of the four.
        InputError: one of the files is there already.
    """
    order = ORDERS_OF_MAGNITUDE[site]
    folder = files(__name__)
    template = Template((folder / "dataset.toml").read_text(encoding="utf-8"))
    declaration = template.substitute(site=site, order_of_magnitude=order)
    write_public(directory / f"{site}.csv", (folder / f"{site}.csv").read_bytes())
    write_public(directory / "heart.toml", declaration.encode())
    return directory / "heart.toml"
