"""What may name a column, and what may stand in a cell.

Apart from `columns`, because whoever reads where a source lies must not import numpy: a vault
leaves the network before it starts a thread.
"""

from typing import Annotated

from pydantic import Field

LARGEST_WORD_LENGTH = 256
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Word = Annotated[str, Field(min_length=1, max_length=LARGEST_WORD_LENGTH)]
