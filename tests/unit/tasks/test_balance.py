"""People see how many of each class there are, by split."""

import numpy as np

from hyena_dist.tasks.balance import balance, describe_balance
from hyena_dist.tasks.labelled import Examples, Kind, LabelledData
from tests.unit.tasks.sets import examples


def a_set(kind: Kind, labels: object) -> LabelledData:
    of = examples(["ACGT", "ACGTACGT", "GGG"])
    split = Examples(of.names, of.lengths, labels, of.read)
    return LabelledData(kind, ("x", "y"), {"train": split}, "")


def test_each_kind() -> None:
    bases = np.empty(3, object)
    bases[:] = [np.array([0, 0, 1, -100]), np.array([0] * 8), np.array([1, 1, 1])]
    flags = np.array([[0, 1], [np.nan, 1], [1, 1]], np.float32)
    found = {
        "single_label": ([1, 1, 0], {"x": 1, "y": 2}, "x 1 (33.3%), y 2 (66.7%)"),
        "multi_label": (flags, {"x": 1, "y": 3}, "x 1 (33.3%), y 3 (100.0%)"),
        "per_base": (bases, {"x": 10, "y": 4}, "x 10 (71.4%), y 4 (28.6%)"),
        "regression": (np.array([[1.0, 0], [2, 0], [6, 0]]), {"x": 3, "y": 0}, "x 3 ± 2.16, y 0 ± 0"),
    }
    for kind, (labels, counts, line) in found.items():
        data = a_set(kind, np.array(labels) if isinstance(labels, list) else labels)
        assert balance(data) == {"train": counts}
        assert describe_balance(data) == [f"train 3 sequences of 3 to 8 bases: {line}"]
