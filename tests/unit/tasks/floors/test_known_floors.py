"""On the sets at hand the floors are as high as those that others have found by the same methods."""

import pytest

from hyena_dist.config.task_data import TaskData
from hyena_dist.tasks.floors.run import run_floors
from hyena_dist.tasks.metrics import metrics
from hyena_dist.tasks.readers import read_labelled
from tests.outside import outside


@pytest.mark.parametrize(
    ("name", "floor", "metric", "known", "higher"),
    [
        ("gue_prom_300_tata", "kmer", "accuracy", 0.69, 0.04),
        ("gue_mouse_0", "kmer", "accuracy", 0.754, 0.02),
        ("nt_histone/H3.csv.gz", "kmer", "mcc", 0.640, 0.02),
        ("nt_histone/H4.csv.gz", "kmer", "mcc", 0.680, 0.02),
        ("nt_histone/H3K36me3.csv.gz", "kmer", "mcc", 0.373, 0.03),
        ("nt_histone/H3K4me3.csv.gz", "kmer", "mcc", 0.185, 0.04),
        ("human_chr20_splice.csv.gz", "onehot", "accuracy", 0.92, 0.02),
    ],
)
def test_floors_are_as_high_as_known(name: str, floor: str, metric: str, known: float, higher: float) -> None:
    shared = outside("HYENA_DIST_SHARED_DATA", "the shared data")
    labels = ("label",) if "splice" in name else ()
    data = read_labelled(TaskData(path=str(shared / "labelled" / name), labels=labels), say=lambda _: None)
    found = metrics(run_floors(data, (floor,))[floor])[metric]
    assert known - 0.02 <= found <= known + higher
