"""The benchmarks of variants on short windows: what they print, write and find."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hyena_dist.bench.observed import ObservedCase, auroc, bench_observed, markov_deltas
from hyena_dist.bench.variants import VariantsCase, bench_variants
from hyena_dist.data.tokenizer import decode
from hyena_dist.inference.sequences import encoded

TINY = Path(__file__).parents[2] / "golden" / "tiny"


def test_the_saving_stands_beside_its_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_variants(VariantsCase(64, (0.5,), (1, 3), 16, 1, 2, "cpu", 1), tmp_path)
    assert capsys.readouterr().out.count(" x of at most ") == 2
    with (tmp_path / "variants-cpu-1x16.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bound"]) for row in rows] == pytest.approx([4 / 3, 1.6])
    for row in rows:
        assert float(row["saving"]) == pytest.approx(float(row["whole_s"]) / float(row["shared_s"]))


def test_area_under_the_curve() -> None:
    assert auroc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert auroc(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5
    assert auroc(np.array([1.0, 3.0]), np.array([2.0, 2.0, 0.0])) == pytest.approx(4 / 6)


def test_a_chain_knows_the_words_that_it_was_counted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change of a word that a genome repeats is less likely, and variants that restore the word are told."""
    rng = np.random.default_rng(0)
    repeated = np.resize([7, 8, 9, 10, 10, 9, 8, 7, 9], 900).astype(np.uint8)
    changed = repeated.copy()
    at = np.arange(20, 880, 20)
    changed[at] = 7 + (repeated[at] - 6) % 4
    text, letters = decode(changed), decode(repeated)
    (tmp_path / "g.fa").write_text(f">a\n{text}\n")
    (tmp_path / "m.fa").write_text(f">m\n{letters}NN{decode(rng.integers(7, 11, 50).astype(np.uint8))}\n")
    rows = "".join(f"a\t{i + 1}\t.\t{text[i]}\t{letters[i]}\t.\t.\t.\n" for i in at.tolist())
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(header + rows)
    case = ObservedCase(tmp_path / "v.vcf", tmp_path / "g.fa", TINY, tmp_path / "m.fa", 32, 20, None)
    found = bench_observed(case)
    assert found["Markov chain of order 5"] > 0.95
    assert 0 <= found["model"] <= 1
    assert "20 observed and 20 random SNVs" in capsys.readouterr().out
    restoring = ("a", 21, text[20], letters[20])
    (delta,) = markov_deltas([restoring], encoded("g", [("a", text)]), case)
    (back,) = markov_deltas([("a", 21, letters[20], text[20])], encoded("g", [("a", letters)]), case)
    assert delta > 1
    assert delta == pytest.approx(-back)
