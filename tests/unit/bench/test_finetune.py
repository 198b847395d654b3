"""The sets that pretraining is compared on: windows of genomes, and task files for what a case asks for."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from hyena_dist.bench.finetune.sets import FinetuneCase, load_sets
from hyena_dist.bench.finetune.windows import Windows, write_windows
from hyena_dist.errors import UserError


def genome(file: Path, *lengths: int) -> str:
    records = [("ACGGT" * length)[i : i + length] for i, length in enumerate(lengths)]
    file.write_bytes(gzip.compress("".join(f">c{i}\n{r}\n" for i, r in enumerate(records)).encode()))
    return records[0]


def read(table: Path) -> list[dict[str, str]]:
    with gzip.open(table, "rt") as file:
        return list(csv.DictReader(file))


def test_windows_of_genomes(tmp_path: Path) -> None:
    first = genome(tmp_path / "coli.fa.gz", 1000, 95, 9)
    genome(tmp_path / "aureus.fa.gz", 400)
    table = tmp_path / "runs/species.csv.gz"
    write_windows(Windows(tmp_path, 10, 1000), table)
    rows = read(table)
    assert Counter(row["label"] for row in rows) == {"coli": 109, "aureus": 40}
    assert Counter(row["split"] for row in rows if row["label"] == "aureus") == {"train": 32, "valid": 4, "test": 4}
    of_first = [row for row in rows if row["label"] == "coli"][:100]
    assert "".join(row["sequence"] for row in of_first) == first
    assert [row["split"] for row in of_first] == 80 * ["train"] + 10 * ["valid"] + 10 * ["test"]


def test_as_many_windows_as_are_asked_for(tmp_path: Path) -> None:
    genome(tmp_path / "coli.fa.gz", 1000)
    table = tmp_path / "species.csv.gz"
    write_windows(Windows(tmp_path, 10, 30), table)
    splits = Counter(row["split"] for row in read(table))
    assert splits == {"train": 24, "valid": 3, "test": 3}
    with pytest.raises(UserError, match=r"has no \*\.fa\.gz file"):
        write_windows(Windows(tmp_path / "nowhere", 10, 30), tmp_path / "other.csv.gz")


def case(data: Path, *sets: str, quick: bool = False) -> FinetuneCase:
    return FinetuneCase(Path("runs/chr20"), data, data / "runs", sets, 3, 2, quick)


def test_sets_of_a_case(tmp_path: Path) -> None:
    (splice,) = load_sets(case(tmp_path, "human_chr20_splice"))
    assert splice.tree["task"]["data"]["path"] == f"{tmp_path}/labelled/human_chr20_splice.csv.gz"
    assert splice.floors == ("majority", "kmer", "onehot")
    assert [each.name for each in load_sets(case(tmp_path, quick=True))] == ["gue_mouse_0", "human_ocr_ensembl"]
    assert {each.tree["task"]["epochs"] for each in load_sets(case(tmp_path, quick=True))} == {0.3}
    (factors,) = load_sets(case(tmp_path, "gue_tf_0"))
    strands = ("reverse_complement", "average_strands")
    assert [[each.tree["task"].get(key, False) for key in strands] for each in (splice, factors)] == [
        [False] * 2,
        [True] * 2,
    ]
    with pytest.raises(UserError, match="there is no set gue_tf_9"):
        load_sets(case(tmp_path, "gue_tf_9"))
    with pytest.raises(UserError, match="name that of the labelled sets with --data"):
        load_sets(case(tmp_path / "nowhere"))
