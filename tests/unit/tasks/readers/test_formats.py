"""Labelled sequences are read alike, whatever the format."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.tokenizer import decode, encode, reverse_complement
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.readers import read_labelled
from tests.unit.tasks.sets import texts, write, written

SPLITS = ("train", "valid", "test")
ROWS = [(text, "ab"[i % 2], SPLITS[i // 4]) for i, text in enumerate(texts(12))]


def read(said: list[str] | None = None, **settings: object) -> LabelledData:
    return read_labelled(TaskData(**settings), say=(said if said is not None else []).append)


def without_names(data: LabelledData) -> dict[str, list[tuple[str, object]]]:
    """Sequences and labels; names are checked where a format has them."""
    return {split: [(text, label) for _, text, label in rows] for split, rows in written(data).items()}


def expected() -> dict[str, list[tuple[str, object]]]:
    return {split: [(text, "ab".index(label)) for text, label, of in ROWS if of == split] for split in SPLITS}


def write_fasta(path: Path, split: str, header: str = ">s{i}|{label}") -> str:
    lines = [
        f"{header.format(i=i, label=label)}\n{text[:9]}\n{text[9:].lower()}\n"
        for i, (text, label, of) in enumerate(ROWS)
        if of == split
    ]
    path.write_text("".join(lines))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "parquet"])
def test_one_table_with_a_column_of_splits(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        columns = dict(zip(("Sequence", "label", "split"), zip(*ROWS, strict=True), strict=True))
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    else:
        write(path, ("Sequence", "label", "split"), *ROWS, mark="\t" if kind == "tsv" else ",")
        if kind.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    data = read(path=str(path))
    assert (data.kind, data.classes) == ("single_label", ("a", "b"))
    assert without_names(data) == expected()
    assert data.splits["test"].names == ["8", "9", "10", "11"]
    assert data.splits["test"].labels.dtype == np.int64


@pytest.mark.parametrize("prefix", ["", "some_set."])
def test_a_table_for_each_split(prefix: str, tmp_path: Path) -> None:
    """GUE has train, dev and test; GenomicBenchmarks as tables has the set's name before."""
    for split, name in zip(SPLITS, ("train", "dev", "test"), strict=True):
        rows = [(i, label, text) for i, (text, label, of) in enumerate(ROWS) if of == split]
        write(tmp_path / f"{prefix}{name}.csv", ("id", "label", "sequence"), *rows)
    (tmp_path / "README.md").write_text("about")
    assert without_names(read(path=str(tmp_path))) == expected()
    named = {split: str(tmp_path / f"{prefix}{'dev' if split == 'valid' else split}.csv") for split in SPLITS}
    assert without_names(read(**named)) == expected()


def test_folders_of_classes(tmp_path: Path) -> None:
    """The layout that GenomicBenchmarks publishes, whose class names need not be in the order of files."""
    for i, (text, label, split) in enumerate(ROWS):
        write(tmp_path / ("dev" if split == "valid" else split) / label / f"{i}.txt", (text,))
    data = read(path=str(tmp_path))
    assert data.classes == ("a", "b")
    assert {split: sorted(rows) for split, rows in without_names(data).items()} == {
        split: sorted(rows) for split, rows in expected().items()
    }
    assert sorted(data.splits["train"].names) == ["train/a/0.txt", "train/a/2.txt", "train/b/1.txt", "train/b/3.txt"]


@pytest.mark.parametrize("header", [">s{i}|{label}", ">s{i} {label}", ">same {label}"])
def test_fasta_with_labels_in_headers(header: str, tmp_path: Path) -> None:
    files = {split: write_fasta(tmp_path / f"{split}.fna", split, header) for split in SPLITS}
    for data in (read(**files), read(path=str(tmp_path))):
        assert without_names(data) == expected()
    if header == ">same {label}":
        assert data.splits["test"].names == ["same", "same#2", "same#3", "same#4"]


def test_fasta_whose_files_are_classes(tmp_path: Path) -> None:
    """Names of files such as enhancer.cv.txt and non.ind.txt, those of iEnhancer."""
    for split, name in (("train", "cv"), ("test", "ind")):
        for label in "ab":
            rows = [f">s{i}\n{text}\n" for i, (text, of, s) in enumerate(ROWS) if (of, s) == (label, split)]
            (tmp_path / f"{label}.{name}.txt.gz").write_bytes(gzip.compress("".join(rows).encode()))
    found = without_names(read(path=str(tmp_path), valid_fraction=0.3))
    assert sorted(found["test"]) == sorted(expected()["test"])
    assert sorted(found["train"] + found["valid"]) == sorted(expected()["train"])


def genome(folder: Path) -> dict[str, str]:
    contigs = {"20": texts(1, 700, seed=1)[0], "Sp:chr3:1:+:700": texts(1, 700, seed=2)[0]}
    (folder / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    return contigs


def test_intervals_of_a_genome_with_several_labels(tmp_path: Path) -> None:
    """DeepSEA's way: a window may have each label, and nothing where nobody looked."""
    contigs = genome(tmp_path)
    rows = [
        (
            "chr20" if i % 3 else "chr3",
            40 * i,
            40 * i + 30,
            "-" if i % 2 else "+",
            split,
            i % 2,
            "" if i == 0 else i % 3 % 2,
        )
        for i, (_, _, split) in enumerate(ROWS)
    ]
    path = write(tmp_path / "x.csv", ("chrom", "start", "end", "strand", "split", "b_peak", "a_peak"), *rows)
    said: list[str] = []
    data = read(said, path=path, genome=str(tmp_path / "g.fa"))
    assert (data.kind, data.classes) == ("multi_label", ("a_peak", "b_peak"))
    assert len(said) == 1
    assert "chr20 is 20" in said[0]
    assert "chr3 is Sp:chr3:1:+:700" in said[0]
    found = {row[0]: row for split in written(data).values() for row in split}
    for contig, start, end, strand, _, b, a in rows:
        text = contigs["20" if contig == "chr20" else "Sp:chr3:1:+:700"][start:end]
        name = f"{contig}:{start}-{end}" + ("(-)" if strand == "-" else "")
        _, sequence, label = found[name]
        assert sequence == (decode(reverse_complement(encode(text))) if strand == "-" else text)
        np.testing.assert_array_equal(label, [np.nan if a == "" else a, b])


def test_bed_has_the_class_in_its_fourth_column(tmp_path: Path) -> None:
    contigs = genome(tmp_path)
    rows = [("20", 40 * i, 40 * i + 30, "xy"[i % 2], 0, "+-"[i % 2]) for i in range(12)]
    data = read(
        path=write(tmp_path / "x.bed", *rows, mark="\t"),
        genome=str(tmp_path / "g.fa"),
        test_fraction=0.3,
        valid_fraction=0.3,
    )
    assert data.classes == ("x", "y")
    for name, sequence, label in (row for split in written(data).values() for row in split):
        start = int(name.split(":")[1].split("-")[0])
        text = contigs["20"][start : start + 30]
        assert label == start // 40 % 2
        assert sequence == (decode(reverse_complement(encode(text))) if label else text)


def test_regression_has_a_number_or_several_of_each_sequence(tmp_path: Path) -> None:
    rows = [(text, i / 8, -i, split) for i, (text, _, split) in enumerate(ROWS)]
    path = write(tmp_path / "x.csv", ("sequence", "z", "a", "split"), *rows)
    data = read(path=path, kind="regression")
    assert data.classes == ("z", "a")
    np.testing.assert_array_equal(data.splits["test"].labels, [[i / 8, -i] for i in range(8, 12)])
    one = read(path=path, kind="regression", labels=("a",))
    assert one.classes == ("a",)
    np.testing.assert_array_equal(one.splits["test"].labels, [[-8], [-9], [-10], [-11]])


@pytest.mark.parametrize("form", ["letters", "text", "lists"])
def test_labels_of_bases(form: str, tmp_path: Path) -> None:
    masks = ["." + "".join("01"[j in (i, i + 1)] for j in range(39)) for i in range(12)]
    rows = [(text, mask, split) for (text, _, split), mask in zip(ROWS, masks, strict=True)]
    if form == "lists":
        lists = [[None if letter == "." else int(letter) for letter in mask] for mask in masks]
        path = str(tmp_path / "x.parquet")
        pq.write_table(pa.table({"sequence": [r[0] for r in rows], "mask": lists, "split": [r[2] for r in rows]}), path)
    else:
        given = [(text, f"[{' '.join(mask)}]" if form == "text" else mask, split) for text, mask, split in rows]
        path = write(tmp_path / "x.csv", ("sequence", "mask", "split"), *given)
    data = read(path=path)
    assert (data.kind, data.classes) == ("per_base", ("0", "1"))
    test = data.splits["test"]
    assert [labels.dtype for labels in test.labels] == [np.int64] * 4
    assert ["".join("01."[label] if label >= 0 else "." for label in labels) for labels in test.labels] == masks[8:]


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    rows = [(text, (10, 9, 2, "x")[i % 4], split) for i, (text, _, split) in enumerate(ROWS)]
    assert read(path=write(tmp_path / "x.csv", ("sequence", "label", "split"), *rows)).classes == ("2", "9", "10", "x")


def test_fingerprints_tell_sequences_labels_and_splits_apart(tmp_path: Path) -> None:
    def of(rows: list[tuple[str, str, str]], **settings: object) -> str:
        return read(path=write(tmp_path / "x.csv", ("sequence", "label", "split"), *rows), **settings).fingerprint

    text, label, split = ROWS[0]
    changed = [[(text[::-1], label, split)], [(text, "b", split)], [(text, label, "valid")]]
    found = [of(ROWS), of(ROWS), *(of([*row, *ROWS[1:]]) for row in changed), of(ROWS, folds=2)]
    assert found[0] == found[1]
    assert len(set(found)) == 5
