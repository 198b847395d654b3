"""Predictions of a model, or of a simple method beside it, for the examples of one split, and their Parquet files.

Shapes: N examples, C classes (or targets of a regression), R rows: examples, of per_base the bases of all of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.labelled import Kind

METADATA = b"hyena_dist.predictions"
"""The key in the file's metadata of kind and classes, as JSON."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for N examples in the order of their split."""

    kind: Kind
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[Any]
    """The labels, in the form of Examples.labels; of per_base, those of all bases behind each other, int64 [bases]."""
    scores: NDArray[np.float32]
    """By kind: probabilities of the classes, [N, C]; of each label, [N, C]; numbers, [N, C]; [bases, C]."""
    lengths: NDArray[np.int64] | None = None
    """The number of bases of each example, [N]; of per_base alone."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def example_of_row(self) -> NDArray[np.int64]:
        """The index of the example that each row is of, [R]."""
        examples = np.arange(len(self))
        return examples if self.lengths is None else np.repeat(examples, self.lengths)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """Return the predictions for some of the examples, in the order of `indices`, which may repeat."""
        kept = np.asarray(indices, dtype=np.int64)
        rows, lengths = kept, None
        if self.lengths is not None:
            lengths = self.lengths[kept]
            ends = np.cumsum(lengths)
            starts = np.cumsum(self.lengths)[kept] - lengths
            rows = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
        names = [self.names[i] for i in kept]
        return replace(self, names=names, labels=self.labels[rows], scores=self.scores[rows], lengths=lengths)

    def without(self, indices: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """Return the predictions for all examples but some."""
        return self.take(np.delete(np.arange(len(self)), np.asarray(indices, dtype=np.int64)))

    def save(self, path: Path) -> None:
        """Write a Parquet file of a row for each example, of per_base for each base.

        Its columns are name; position, of per_base; label, the name of the class, or label/NAME, the value of each
        label or target, null where it is not known; and score/NAME of each class, label or target, fp32.

        Raises:
            OSError: the file could not be written; an old one is untouched.
        """
        columns: dict[str, pa.Array] = {"name": pa.array(self.names, pa.string())}
        if self.lengths is not None:
            rows = self.example_of_row
            columns["name"] = columns["name"].take(pa.array(rows))
            columns["position"] = pa.array(np.concatenate([np.arange(n) for n in self.lengths.tolist()]))
        if self.kind in ("single_label", "per_base"):
            unknown = self.labels < 0
            columns["label"] = pa.array(self.classes).take(pa.array(np.where(unknown, 0, self.labels), mask=unknown))
        else:
            for name, values in zip(self.classes, self.labels.T, strict=True):
                columns[f"label/{name}"] = pa.array(values, mask=np.isnan(values))
        for name, values in zip(self.classes, self.scores.T, strict=True):
            columns[f"score/{name}"] = pa.array(values)
        about = json.dumps({"kind": self.kind, "classes": self.classes}).encode()
        file = BytesIO()
        pq.write_table(pa.table(columns).replace_schema_metadata({METADATA: about}), file, compression="zstd")
        write_atomically(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` has written.

        Raises:
            UserError: there is no such file, or it is another one.
        """
        try:
            table = pq.read_table(path)
            about = json.loads(table.schema.metadata[METADATA])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no file of predictions ({error}); name a predictions-SPLIT.parquet") from error
        kind, classes = about["kind"], tuple(about["classes"])
        names, lengths = table["name"], None
        if kind == "per_base":
            starts = np.flatnonzero(table["position"].to_numpy() == 0)
            names = names.take(pa.array(starts))
            lengths = np.diff(starts, append=table.num_rows).astype(np.int64)
        if kind in ("single_label", "per_base"):
            index = {name: number for number, name in enumerate(classes)}
            labels = np.array([index.get(name, -100) for name in table["label"].to_pylist()], dtype=np.int64)
        else:
            labels = np.stack([table[f"label/{name}"].to_numpy() for name in classes], axis=1).astype(np.float32)
        scores = np.stack([table[f"score/{name}"].to_numpy() for name in classes], axis=1)
        return cls(kind, classes, names.to_pylist(), labels, scores, lengths)
