"""A data set as a site holds it, and the views of it that jobs ask for.

A job names feature columns; it never sees the others. Which side of the split a unit is on, and who
it belongs to, is decided once for the whole data set, so every view has the same units.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from sordino_client.data.storage import Spill
from sordino_client.data.table import Table
from sordino_protocols.schema import Schema

LARGEST_VIEW_COUNT = 4


@dataclass(frozen=True, slots=True)
class SiteDataset:
    """A data set, encoded. Not for several threads at once: `narrowed` remembers what it made.

    Attributes:
        schema: what the admin published.
        training: records that jobs learn from.
        heldout: records that evaluations count, and no job learns from.
        spill: when the features of a view go to disk; None: never.
    """

    schema: Schema
    training: Table
    heldout: Table
    spill: Spill | None = None
    _views: "OrderedDict[str, SiteDataset]" = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def narrowed(self, columns: tuple[str, ...]) -> "SiteDataset":
        """The data set as if no other feature column had ever been declared.

        The features are, to the last bit, those that the narrower schema would have given; units,
        labels and the split stay. The last four views are kept, so that a run's rounds make one
        copy, whatever the order of its columns; `Schema.narrowed` alone copies nothing.

        Args:
            columns: names of feature columns, in any order; empty: all.

        Raises:
            InputError: a name is no feature column of this data set, or the disk is full.
        """
        schema = self.schema.narrowed(columns)
        if schema is self.schema:
            return self
        key = schema.digest()
        if key not in self._views:
            self._views[key] = self._view(schema, columns)
        self._views.move_to_end(key)
        while len(self._views) > LARGEST_VIEW_COUNT:
            self._views.popitem(last=False)
        return self._views[key]

    def _view(self, schema: Schema, columns: tuple[str, ...]) -> "SiteDataset":
        positions = self.schema.positions(columns)
        training = self.training.select(positions, spill=self.spill)
        heldout = self.heldout.select(positions, spill=self.spill)
        return SiteDataset(schema, training, heldout, self.spill)
