"""A data set as its admin declares it: the public schema, and where the records are."""

from pathlib import Path

from sordino_client.data.sources import Source, located
from sordino_protocols.files import read_toml
from sordino_protocols.schema import Schema


class DatasetFile(Schema):
    """A data set as its admin declares it: `Schema` is public, `source` never leaves the site."""

    source: Source

    @property
    def public(self) -> Schema:
        """The part that may leave the site; it has the same digests."""
        return Schema(
            dataset=self.dataset,
            columns=self.columns,
            roles=self.roles,
            constraints=self.constraints,
        )


def read_dataset(path: Path) -> DatasetFile:
    """Read a data set's declaration: paths become absolute, and sets get the words of their files.

    Raises:
        NotFoundError: there is no such file.
        InputError: it breaks the declaration's rules; names file, key and expectation.
    """
    directory = path.absolute().parent
    dataset = read_toml(path, DatasetFile).with_words(directory)
    return dataset.model_copy(update={"source": located(dataset.source, directory)})
