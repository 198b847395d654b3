"""Scores beside the published formulas in float64, and the same whatever the batches, windows and files are."""

import csv
import doctest
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

import hyena_dist
from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.cli import main
from hyena_dist.data.tokenizer import G, decode, encode, reverse_complement
from tests.unit.inference.published import log_likelihoods

GOLDEN = Path(__file__).parents[2] / "golden"
L_MAX = {"tiny": 258, "order3-checkpointed": 130}
RNG = np.random.default_rng(17)


def random_sequence(length: int, unknown: float = 0.05) -> str:
    share = (1 - unknown) / 4
    return "".join(RNG.choice(list("ACGTN"), length, p=[share] * 4 + [unknown]))


def turned(sequence: str) -> str:
    return decode(reverse_complement(encode(sequence)))


def assert_equal_where_scored(found: NDArray[np.floating], expected: NDArray[np.float64]) -> None:
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(found - expected) / np.abs(expected)) <= 1e-6


SEQUENCES = {f"of {length}": random_sequence(length) for length in (100, 7, 131, 64, 100)} | {"short": "NAC"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("folder", L_MAX)
def test_beside_the_published_formulas(folder: str, dtype: torch.dtype) -> None:
    """Sums agree to 1e-6 on both strands, and so does every base (to 2e-6 in float32, whose logits are rounded)."""
    found = hyena_dist.score(GOLDEN / folder, SEQUENCES, strands="both", per_base=True, dtype=dtype)
    assert found is not None
    assert found.per_base is not None
    assert found.names == list(SEQUENCES)
    for i, sequence in enumerate(SEQUENCES.values()):
        strands = log_likelihoods(GOLDEN / folder, sequence), log_likelihoods(GOLDEN / folder, turned(sequence))
        sums = [np.nansum(strand) for strand in strands]
        counts = [np.count_nonzero(~np.isnan(strand)) for strand in strands]
        assert found.lengths[i] == len(sequence)
        assert found.scored[i].tolist() == counts
        assert found.log_likelihood[i] == pytest.approx(sums, rel=1e-6)
        assert found.total[i] == pytest.approx(sum(sums) / 2, rel=1e-6)
        assert found.mean[i] == pytest.approx(sum(sums) / sum(counts), rel=1e-6)
        assert found.perplexity[i] == pytest.approx(math.exp(-sum(sums) / sum(counts)), rel=1e-6)
        assert found.bits_per_base[i] == pytest.approx(-sum(sums) / sum(counts) / math.log(2), rel=1e-6)
        for row, expected in zip(found.per_base[i], (strands[0], strands[1][::-1]), strict=True):
            assert np.array_equal(np.isnan(row), np.isnan(expected))
            assert np.nanmax(np.abs(row - expected)) <= 2e-6


@pytest.mark.parametrize("max_tokens", [1, 200, 2**16])
def test_batches_change_nothing(max_tokens: int) -> None:
    one_by_one = [hyena_dist.score(GOLDEN / "tiny", [text], dtype=torch.float64) for text in SEQUENCES.values()]
    together = hyena_dist.score(GOLDEN / "tiny", SEQUENCES, dtype=torch.float64, max_tokens_per_batch=max_tokens)
    assert together is not None
    assert together.log_likelihood == pytest.approx(np.concatenate([s.log_likelihood for s in one_by_one if s]), 1e-12)


@pytest.mark.parametrize("overlap", [1, 40, 257])
def test_windows_score_each_base_once_with_its_context(overlap: int) -> None:
    length = 264 if overlap == 257 else 700
    sequence = random_sequence(length)
    found = hyena_dist.score(
        GOLDEN / "tiny", [sequence], strands="both", per_base=True, overlap=overlap, dtype=torch.float64
    )
    assert found is not None
    assert found.per_base is not None
    for row, text in ((found.per_base[0][0], sequence), (found.per_base[0][1][::-1], turned(sequence))):
        expected = np.full(length, math.nan)
        start, first = 0, 1
        while first < length:  # a window has l_max bases to read, and one more to predict
            end = min(length, start + L_MAX["tiny"] + 1)
            assert first - start >= min(first, overlap)
            expected[first:end] = log_likelihoods(GOLDEN / "tiny", text[start:end])[first - start :]
            start, first = end - overlap, end
        assert_equal_where_scored(row, expected)


def test_the_longest_sequence_that_fits_is_scored_whole() -> None:
    sequence = random_sequence(L_MAX["tiny"] + 1)
    found = hyena_dist.score(GOLDEN / "tiny", [sequence])
    assert found is not None
    assert found.total[0] == pytest.approx(np.nansum(log_likelihoods(GOLDEN / "tiny", sequence)), rel=1e-6)


def test_files_hold_what_python_gets(tmp_path: Path) -> None:
    found = hyena_dist.score(GOLDEN / "tiny", SEQUENCES, strands="both", per_base=True)
    assert found is not None
    assert found.per_base is not None
    for name in ("x.csv", "x.tsv", "x.parquet"):
        with_bases = name.endswith("parquet")
        out = tmp_path / name
        assert hyena_dist.score(GOLDEN / "tiny", SEQUENCES, out=out, strands="both", per_base=with_bases) is None
        if with_bases:
            table = pq.read_table(out)
            rows = table.drop_columns(["per_base_forward", "per_base_reverse"]).to_pylist()
            for strand, side in enumerate(("forward", "reverse")):
                for values, expected in zip(table[f"per_base_{side}"].to_pylist(), found.per_base, strict=True):
                    assert [v if v is not None else math.nan for v in values] == pytest.approx(
                        expected[strand].tolist(), nan_ok=True
                    )
        else:
            with out.open(newline="") as file:
                rows = list(csv.DictReader(file, delimiter="," if name == "x.csv" else "\t"))
        assert [row["name"] for row in rows] == found.names
        for column, values in {
            "length": found.lengths,
            "scored": found.scored.sum(1),
            "log_likelihood": found.total,
            "mean_log_likelihood": found.mean,
            "perplexity": found.perplexity,
            "bits_per_base": found.bits_per_base,
            "log_likelihood_forward": found.log_likelihood[:, 0],
            "log_likelihood_reverse": found.log_likelihood[:, 1],
        }.items():
            assert [float(row[column]) for row in rows] == values.tolist(), column


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sequences": {"long": "A" * 260}}, "'long' has 260 bases"),
        ({"strands": "three"}, "'three'"),
        ({"overlap": 258}, "overlap 258"),
        ({"overlap": 0}, "overlap 0"),
        ({"out": "x.bed"}, "x.bed"),
        ({"out": "none/x.csv"}, "there is no folder"),
        ({"out": "x.csv", "per_base": True}, "x.csv cannot have the scores of every base"),
        ({"device": "cuda"}, "no GPU"),
        ({"model": "nowhere"}, "nowhere"),
        ({"genome": "x.fa", "sequences": "y.fa"}, "y.fa"),
    ],
)
def test_mistakes_are_said_before_the_work(
    arguments: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "device" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as error:
        hyena_dist.score(**{"model": GOLDEN / "tiny", "sequences": ["ACGT"]} | arguments)
    assert str(error.value).count(". ") == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("texts", [{"a": "A", "b": "ACGT", "c": "NNN", "d": "GNN"}, {"a": "T"}])
def test_nothing_to_score_is_nothing_scored(texts: dict[str, str], tmp_path: Path) -> None:
    found = hyena_dist.score(GOLDEN / "tiny", texts, per_base=True)
    assert found is not None
    assert found.scored[:, 0].tolist() == [3 * (name == "b") for name in texts]
    assert np.isnan(found.bits_per_base).tolist() == [name != "b" for name in texts]
    for name in ("x.csv", "x.parquet"):
        hyena_dist.score(GOLDEN / "tiny", texts, out=tmp_path / name)
    assert pq.read_table(tmp_path / "x.parquet")["perplexity"].is_null().to_pylist() == [n != "b" for n in texts]
    assert "\na,1,0,0.0,,,\n" in (tmp_path / "x.csv").read_text()


def test_a_model_that_gives_nan_is_an_error_with_the_sequence() -> None:
    model = HyenaDNA(ModelConfig(d_model=16, n_layer=1, l_max=64, filter_order=8, tie_embeddings=False)).eval()
    with torch.no_grad():
        model.backbone.embeddings.word_embeddings.weight[G] = math.nan
    with pytest.raises(UserError, match="NaN or infinite log-likelihoods for 'b'"):
        hyena_dist.score(model, {"a": "ACATACAN", "b": "ACGTA", "c": "TTTTT"})


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN.parents[1])
    (test,) = doctest.DocTestFinder(recurse=False).find(hyena_dist.score, "example", globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_verb_does_what_python_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.fa").write_text(f">chr1\n{SEQUENCES['of 131']}\n")
    (tmp_path / "x.bed").write_text("chr1\t3\t80\ta\t0\t-\nchr1\t80\t131\tb\n")
    words = ["score", str(tmp_path / "x.bed"), "--genome", str(tmp_path / "x.fa"), "--model", str(GOLDEN / "tiny")]
    options = ["--strands", "both", "--per-base", "--modulation-shift", "0.0", "--max-tokens-per-batch", "80"]
    assert main([*words, *options, "--out", str(tmp_path / "verb.parquet")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/verb.parquet\n"
    hyena_dist.score(
        hyena_dist.load(GOLDEN / "tiny", modulation_shift=0.0),
        {"a": turned(SEQUENCES["of 131"][3:80]), "b": SEQUENCES["of 131"][80:]},
        out=tmp_path / "python.parquet",
        strands="both",
        per_base=True,
        max_tokens_per_batch=80,
    )
    assert (tmp_path / "verb.parquet").read_bytes() == (tmp_path / "python.parquet").read_bytes()
    assert main([*words, *options, "--out", str(tmp_path / "verb.parquet")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/verb.parquet exists and is left as it is; remove it, or name another --out\n"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_are_near(dtype: torch.dtype) -> None:
    exact, rounded = (hyena_dist.score(GOLDEN / "tiny", SEQUENCES, dtype=each) for each in (None, dtype))
    assert exact is not None
    assert rounded is not None
    assert rounded.scored.tolist() == exact.scored.tolist()
    assert rounded.mean == pytest.approx(exact.mean, abs=0.02)
