"""What a person calls the cells of a column."""

from sordino_protocols.synthesis.domain import ColumnDomain, NumericDomain, SetDomain


def cell_labels(column: ColumnDomain) -> tuple[str, ...]:
    """A label a cell: where a number's cell begins, a word, "missing"."""
    if isinstance(column, NumericDomain):
        begins = [float(column.column.min), *column.boundaries.tolist()]
        labels = [f"{each:,.10g}" for each in begins]
    else:
        labels = list(column.column.words)
    if not isinstance(column, SetDomain) and column.missing is not None:
        labels.append("missing")
    return tuple(labels)
