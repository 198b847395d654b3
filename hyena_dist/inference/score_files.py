"""Files of scores: text with a row for each sequence, or Parquet, which can have a list of every base's as well."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from hyena_dist.inference.score import Scores

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*_SEPARATORS, ".parquet")
_STRANDS = ("forward", "reverse")
_ROWS = 2**16


def write_scores(path: Path, scores: "Scores") -> None:
    """Write the scores of N sequences in the order of the input.

    The columns are name, length, scored (bases on all strands), log_likelihood (their sum; of two strands the mean),
    mean_log_likelihood, perplexity and bits_per_base, with two strands the sum of each, and in Parquet on demand each
    base's as a list, null where it was not scored. Means of nothing are null, or an empty cell of text.
    """
    table = _table(scores)
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, table.schema, compression="zstd") as file:
            file.write_table(table, row_group_size=_ROWS)
        return
    with path.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text, delimiter=_SEPARATORS[path.suffix], lineterminator="\n")
        rows.writerow(table.column_names)
        for batch in table.to_batches(_ROWS):
            rows.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _table(scores: "Scores") -> pa.Table:
    columns = {
        "name": pa.array(scores.names, pa.string()),
        "length": pa.array(scores.lengths),
        "scored": pa.array(scores.scored.sum(1)),
        "log_likelihood": pa.array(scores.total),
        "mean_log_likelihood": pa.array(scores.mean, from_pandas=True),
        "perplexity": pa.array(scores.perplexity, from_pandas=True),
        "bits_per_base": pa.array(scores.bits_per_base, from_pandas=True),
    }
    strands = scores.log_likelihood.shape[1]
    offsets = np.concatenate(([0], np.cumsum(scores.lengths)))
    if strands > 1:
        for strand, name in enumerate(_STRANDS):
            columns[f"log_likelihood_{name}"] = pa.array(scores.log_likelihood[:, strand])
    for strand, name in enumerate(_STRANDS[:strands] if scores.per_base is not None else ()):
        flat = pa.array(np.concatenate([values[strand] for values in scores.per_base or ()]), from_pandas=True)
        columns[f"per_base_{name}"] = pa.LargeListArray.from_arrays(pa.array(offsets), flat)
    return pa.table(columns)
