"""Tables in text files: CSV and TSV, plain, gzip or bgzip."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hyena_dist.data.text.files import read_lines
from hyena_dist.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What is between the columns of a table, by the suffix of its file."""
_LONGEST_FIELD = 2**31 - 1  # what the csv module can take


class Table(NamedTuple):
    """A table that is read row by row."""

    columns: list[str]
    """The columns' names in the first line, without blanks around them; none if the file is empty."""
    rows: Iterator[list[str]]
    """The other lines that are not empty, each as many fields as there are columns."""


def suffix_of(path: Path) -> str:
    """Return the suffix of a file in lower case, that before .gz or .bgz if it has one of these."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bgz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_table(path: Path, delimiter: str | None = None) -> Table:
    """Open a table whose first line names its columns.

    Args:
        path: the file.
        delimiter: what is between columns; by the file's suffix if not given.

    Raises:
        UserError: The file cannot be read or, while rows are read, a row has more or fewer fields than the first line.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = csv.reader(read_lines(path), delimiter=delimiter or DELIMITERS[suffix_of(path)])
    columns = [column.strip() for column in next(lines, [])]

    def rows() -> Iterator[list[str]]:
        for number, row in enumerate(filter(None, lines), 1):
            if len(row) != len(columns):
                raise UserError(
                    f"{path}, row {number}: {len(row)} columns where the first line has {len(columns)}; mend the row"
                )
            yield row

    return Table(columns, rows())
