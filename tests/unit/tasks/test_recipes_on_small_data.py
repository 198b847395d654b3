"""The recipes whose data is not at hand: each is planned on a few sequences in files as its data comes in."""

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyena_dist.tasks.finetuning import Finetuning
from hyena_dist.tasks.recipe_table import Recipe, recipes
from hyena_dist.tasks.resolve import complete

FAMILIES = {"GenomicBenchmarks", "Nucleotide Transformer"}
TABLES = [recipe for recipe in recipes().values() if recipe.family in FAMILIES]
BASES = random.Random(0)


def sequence(length: int) -> str:
    return "".join(BASES.choices("ACGT", k=length))


@pytest.mark.parametrize("recipe", TABLES, ids=lambda recipe: recipe.name)
def test_parquet_of_each_split(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = recipe.tree["task"]["data"]
    Path(data["path"]).mkdir(parents=True)
    for split, count in (("train", 300), ("test", 30)):
        columns = {data.get("sequence", "sequence"): [sequence(50) for _ in range(count)]}
        table = pa.table(columns | {"label": [i % 3 for i in range(count)]})
        pq.write_table(table, f"{data['path']}/{split}.parquet")
    config = complete(recipe.tree | {"model": "scratch"}, recipe.name)
    task = Finetuning(config)
    assert (task.data.kind, task.data.classes) == ("single_label", ("0", "1", "2"))
    assert task.goal.metric == recipe.metric
    assert config.train.curriculum[0].train_iters == round(100 * len(task.data.splits["train"]) / 128)
    assert config.task is not None
    assert config.task.published is not None
    assert (config.task.published.metric, config.task.published.value * 100) == (
        recipe.metric,
        pytest.approx(recipe.paper),
    )


@pytest.mark.parametrize(("name", "length"), [("chromatin-1k", 1000), ("chromatin-8k", 8000)])
def test_919_profiles(name: str, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = recipes()[name].tree
    genome, path = Path(tree["task"]["data"]["genome"]), Path(tree["task"]["data"]["path"])
    genome.parent.mkdir(parents=True)
    genome.write_bytes(gzip.compress(f">chr1\n{sequence(40 * length)}\n".encode()))
    rows = [["chrom", "start", "end", "split", *(f"profile_{i}" for i in range(919))]]
    for i in range(40):
        place = ["chr1", str(i * length), str((i + 1) * length), "test" if i >= 30 else "train"]
        rows.append([*place, *BASES.choices("01", k=919)])
    path.write_bytes(gzip.compress("\n".join(map(",".join, rows)).encode()))
    config = complete(tree | {"model": "scratch"}, name)
    task = Finetuning(config)
    assert config.task is not None
    assert config.task.published is None, "the paper's median of some profiles is no mean of all"
    assert (task.data.kind, len(task.data.classes), task.goal.metric) == ("multi_label", 919, "auroc")
    assert (config.train.curriculum[0].seq_length, config.model.l_max) == (length, max(length, 1026))
