"""`score_variants` from Python and `hyena-dist variants`: scores, files, refusals, and jobs that are killed."""

import doctest
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch

import hyena_dist
from hyena_dist.cli import main
from hyena_dist.data.tokenizer import decode, encode, reverse_complement
from hyena_dist.models.lm import HyenaDNA
from tests.configs import refusal

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "tiny"
CONTIG = "".join(np.random.default_rng(0).choice(list("ACGT"), 300))
GENOME = {"a": CONTIG[:120] + "NNNN" + CONTIG[124:], "b": CONTIG[50:90]}


def base(position: int, contig: str = "a") -> str:
    """The base at a position from 1."""
    return GENOME[contig][position - 1]


def other(letter: str) -> str:
    return "ACGT"["ACGT".index(letter) - 1]


VARIANTS = [
    ("a", 3, base(3), other(base(3))),
    ("a", 100, GENOME["a"][99:103], base(100)),
    ("a", 150, base(150), f"{other(base(150))},{base(150)}GATTACA,<DEL>,*"),
    ("a", 300, base(300), other(base(300))),
    ("b", 20, base(20, "b"), other(base(20, "b"))),
]
SKIPPED = ["", "", "", "", "symbolic", "overlapping_deletion", "", ""]


def write_vcf(path: Path) -> Path:
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=HYENA_DELTA,Number=1,Type=Float,Description="of another model">']
    lines += ["##contig=<ID=a,length=300>", "##contig=<ID=b>", '##ALT=<ID=DEL,Description="Deletion">']
    lines += [
        '##INFO=<ID=AF,Number=A,Type=Float,Description="x">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">',
    ]
    lines.append("\t".join(("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "s1")))
    infos = ["AF=0.000199681", ".", "AF=0.1,0.2,0.3,0.4;HYENA_DELTA=7", "HYENA_DELTA=8", "AF=1e-05"]
    for (chrom, pos, ref, alt), info in zip(VARIANTS, infos, strict=True):
        lines.append("\t".join((chrom, str(pos), ".", ref, alt, "100", "PASS", info, "GT", "0|1")))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    fasta = tmp_path / "g.fa"
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in GENOME.items()))
    return write_vcf(tmp_path / "in.vcf"), fasta


def log_likelihood(model: HyenaDNA, text: str) -> float:
    """Sum over the bases from the second on, by a softmax of all logits."""
    tokens = torch.from_numpy(encode(text)).long()[None]
    with torch.no_grad():
        logits = model(tokens).logits[..., : model.config.vocab_size]
    chosen = logits.log_softmax(-1)[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
    return float(chosen[(tokens[0, 1:] >= 7) & (tokens[0, 1:] <= 10)].sum())


def turned(text: str) -> str:
    """The opposite strand of a text."""
    return decode(reverse_complement(encode(text)))


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (test,) = doctest.DocTestFinder(recurse=False).find(hyena_dist.score_variants, "example", globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_equal_to_full_forward_passes_written_by_hand() -> None:
    """In float64, of an SNV, a deletion and an insertion far from the contig's ends, on both strands."""
    model = hyena_dist.load(TINY).double()
    a = GENOME["a"]
    window, left = 64, 32
    found = hyena_dist.score_variants(model, VARIANTS[1:3], GENOME, window=window)
    assert found is not None
    for row, (pos, ref, alt) in enumerate(
        [(99, a[99:103], a[99]), (149, a[149], other(a[149])), (149, a[149], a[149] + "GATTACA")]
    ):
        changed = a[:pos] + alt + a[pos + len(ref) :]
        start = pos - left
        forward = [text[start : start + window] for text in (a, changed)]
        end = pos + left  # of what is behind the variant on the given strand, and before it on the other
        backward = [turned(text[: end + len(allele)][-window:]) for text, allele in ((a, ref), (changed, alt))]
        for strand, texts in enumerate((forward, backward)):
            of_ref, of_alt = (log_likelihood(model, text) for text in texts)
            assert found.by_strand[row, strand] == pytest.approx(of_alt - of_ref, abs=1e-9)
    np.testing.assert_allclose(found.delta[:3], found.by_strand[:3].mean(1))


def test_swapping_ref_and_alt_turns_the_sign() -> None:
    model = hyena_dist.load(TINY).double()
    for _, pos, ref, alts in (*VARIANTS[:3], VARIANTS[3]):
        alt = alts.split(",")[0]
        changed = GENOME["a"][: pos - 1] + alt + GENOME["a"][pos - 1 + len(ref) :]
        there = hyena_dist.score_variants(model, [("a", pos, ref, alt)], GENOME, window=64)
        back = hyena_dist.score_variants(model, [("a", pos, alt, ref)], {"a": changed}, window=64)
        assert there is not None
        assert back is not None
        assert abs(there.delta[0]) > 1e-3
        np.testing.assert_allclose(there.by_strand, -back.by_strand, atol=1e-10)
        np.testing.assert_allclose(there.delta_mean, -back.delta_mean, atol=1e-10)


def test_files_hold_what_python_returns(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vcf, fasta = files
    outs = [tmp_path / name for name in ("o.vcf.gz", "o.parquet", "o.vcf")]
    asked = [word for out in outs for word in ("--out", str(out))]
    assert main(["variants", str(vcf), "--genome", str(fasta), "--model", str(TINY), "--window", "32", *asked]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "scored 6 of 8 alternatives in windows of 32 bases; not scored: 1 overlapping_deletion, 1 symbolic",
        *(f"wrote {out}" for out in outs),
    ]
    found = hyena_dist.score_variants(TINY, VARIANTS, GENOME, window=32)
    assert found is not None
    assert found.skipped == SKIPPED
    table = pq.read_table(outs[1]).to_pydict()
    np.testing.assert_array_equal(np.array(table["delta"], float), found.delta)
    np.testing.assert_array_equal(np.array(table["delta_mean"], float), found.delta_mean)
    for strand, name in enumerate(("delta_forward", "delta_reverse")):
        np.testing.assert_array_equal(np.array(table[name], float), found.by_strand[:, strand])
    np.testing.assert_allclose(
        np.array(table["log_likelihood_alt"], float) - np.array(table["log_likelihood_ref"], float), found.delta
    )
    assert (table["chrom"], table["pos"]) == (found.chrom, found.pos.tolist())
    assert (table["ref"], table["alt"]) == (found.ref, found.alt)
    assert [why or "" for why in table["skipped"]] == SKIPPED
    assert table["delta"][4] is None

    with pysam.VariantFile(str(outs[0])) as file:
        records = list(file)
        deltas = [value for record in records for value in record.info["HYENA_DELTA"]]
        expected = [None if np.isnan(value) else pytest.approx(value, rel=1e-5) for value in found.delta]
        assert deltas == expected
        assert records[2].info["HYENA_SKIPPED"] == (".", ".", "symbolic", "overlapping_deletion")
        assert [record.pos for record in file.fetch("b")] == [20]
    ours, before = outs[2].read_text().splitlines(), vcf.read_text().splitlines()
    assert gzip_text(outs[0]).splitlines() == ours
    assert [line for line in ours if "HYENA_DELTA," in line] == [
        '##INFO=<ID=HYENA_DELTA,Number=A,Type=Float,Description="Log-likelihood of the window with ALT minus that with '
        'REF, in nats; strands averaged">'
    ]
    for line, old in zip(ours[-5:], before[-5:], strict=True):
        kept = [field for field in line.split("\t")[7].split(";") if not field.startswith("HYENA_")]
        had = [field for field in old.split("\t")[7].split(";") if not field.startswith(("HYENA_", "."))]
        assert kept == had
        assert line.split("\t")[:7] + line.split("\t")[8:] == old.split("\t")[:7] + old.split("\t")[8:]


def gzip_text(path: Path) -> str:
    with pysam.BGZFile(str(path), "rb") as file:
        return "".join(line.decode() + "\n" for line in file)


def test_strands_position_and_region(files: tuple[Path, Path], tmp_path: Path) -> None:
    vcf, fasta = files
    both = hyena_dist.score_variants(TINY, vcf, fasta, window=32, position=0.8)
    one = hyena_dist.score_variants(TINY, vcf, str(fasta), window=32, position=0.8, strands="one")
    centred = hyena_dist.score_variants(TINY, vcf, fasta, window=32, strands="one")
    assert both is not None
    assert one is not None
    assert centred is not None
    np.testing.assert_array_equal(one.delta, both.by_strand[:, 0])
    assert (one.delta != centred.delta)[:4].tolist() == [False, True, True, True]  # the first is near the contig's end
    indexed = pysam.tabix_index(str(vcf), preset="vcf", keep_original=True)
    part = hyena_dist.score_variants(TINY, indexed, fasta, window=32, strands="one", region="a:90-160")
    assert part is not None
    np.testing.assert_allclose(part.delta, centred.delta[1:6], rtol=1e-5)


def test_a_ref_that_disagrees_is_passed_through_unscored(tmp_path: Path) -> None:
    wrong = ("a", 8, other(base(8)), base(8))
    assert "line 1: REF" in refusal(lambda: hyena_dist.score_variants(TINY, [wrong, VARIANTS[0]], GENOME))
    found = hyena_dist.score_variants(TINY, [wrong, VARIANTS[0]], GENOME, ref_mismatch="skip", window=32)
    assert found is not None
    assert found.skipped == ["reference_mismatch", ""]
    assert np.isnan(found.delta).tolist() == [True, False]


def test_what_has_no_window_on_both_strands_is_not_scored() -> None:
    """An insertion at the contig's start, where the other strand's window ends, and a base beside nothing but N."""
    genome = {"a": GENOME["a"], "n": "ANNNNNNN"}
    variants = [("a", 3, base(3), base(3) + "GATTACA"), ("n", 1, "A", "C"), VARIANTS[0]]
    forward = hyena_dist.score_variants(TINY, variants, genome, window=16, strands="one")
    assert forward is not None
    assert forward.skipped == ["", "no_window", ""]
    found = hyena_dist.score_variants(TINY, variants, genome, window=16)
    assert found is not None
    assert found.skipped == ["no_window", "no_window", ""]
    assert np.isnan(found.by_strand).tolist() == [[True, True], [True, True], [False, False]]


def test_a_model_that_gives_nan_is_refused_by_place() -> None:
    model = hyena_dist.load(TINY)
    model.backbone.ln_f.weight.data[:] = torch.nan
    said = refusal(lambda: hyena_dist.score_variants(model, [VARIANTS[1]], GENOME, window=16))
    assert "NaN or infinite log-likelihoods around a:100" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "x.csv"], "x.csv ends in .csv; name a file that ends in .vcf or .vcf.gz or"),
        (["--out", "x.gz"], "x.gz ends in .gz; name"),
        (["--out", "nowhere/x.vcf"], "there is no folder"),
        (["--out", "x.vcf", "--out", "there.parquet"], "there.parquet exists and is left as it is"),
        (["--out", "x.vcf", "--window", "1"], "a window of 1 bases has nothing to score"),
        (["--out", "x.vcf", "--window", "4096"], "longer than the 258 (l_max) that the model reads"),
        (["--out", "x.vcf", "--position", "1.5"], "position 1.5 is no share of a window"),
        (["--out", "x.vcf", "--region", "a:1-9"], "has no index beside it"),
        (["--out", "x.vcf", "--genome", "nothing.fa"], "there is no file nothing.fa"),
        (["--out", "x.vcf", "--model", "nothing"], "there is no nothing"),
        (["--out", "x.vcf.gz", "unsorted.vcf"], "unsorted.vcf is not sorted, so that x.vcf.gz could have no index"),
        (["--out", "x.vcf", "nothing.vcf"], "there is no file nothing.vcf"),
    ],
)
def test_mistakes_are_one_sentence_before_the_work(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.parquet").touch()
    os.utime("there.parquet", (0, 0))
    lines = files[0].read_text().splitlines()
    Path("unsorted.vcf").write_text("\n".join([*lines[:-5], *lines[:-6:-1]]) + "\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    vcf = str(files[0]) if options[-2].startswith("--") else options.pop()
    assert main(["variants", vcf, "--genome", str(files[1]), "--model", str(TINY), *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


JOB = """
import sys, time
import hyena_dist
from hyena_dist.inference import variant_work
from tests.unit.inference.test_variants import GENOME, VARIANTS

score = variant_work.VariantWork._score

def slowly(*arguments):
    time.sleep(0.1)
    return score(*arguments)

variant_work.VariantWork._score = slowly
many = [variant for variant in VARIANTS for _ in range(60)]
hyena_dist.score_variants(sys.argv[1], many, GENOME, out=sys.argv[2:], window=16)
"""


def start(outs: list[Path], rank: int = 0, world_size: int = 1) -> "subprocess.Popen[bytes]":
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    environment = os.environ | ranks | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", JOB, str(TINY), *map(str, outs)], env=environment)


def test_a_job_that_is_killed_goes_on_with_other_processes_to_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = ([tmp_path / f"{name}{suffix}" for suffix in (".vcf.gz", ".parquet")] for name in ("w", "k"))
    both = [start(whole), start(killed)]
    folder = tmp_path / "k.vcf.gz.partial"
    while len(list(folder.glob("part-*"))) < 2:
        time.sleep(0.01)
    both[1].send_signal(signal.SIGKILL)
    assert both[1].wait() == -signal.SIGKILL
    assert not any(path.exists() for path in killed)
    second = [start(killed, rank, 2) for rank in (0, 1)]
    assert [process.wait(100) for process in [both[0], *second]] == [0, 0, 0]
    assert not folder.exists()
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in killed]
    assert (tmp_path / "k.vcf.gz.tbi").stat().st_size > 0


def test_a_job_that_was_killed_while_it_tidied_up_has_ended(files: tuple[Path, Path], tmp_path: Path) -> None:
    vcf, genome = files
    outs = [tmp_path / "x.vcf", tmp_path / "x.parquet"]
    hyena_dist.score_variants(TINY, vcf, genome, out=outs, window=32)
    (tmp_path / "x.vcf.partial").mkdir()  # without its header, which goes first
    before = [path.read_bytes() for path in outs]
    hyena_dist.score_variants(TINY, vcf, genome, out=outs, window=32)
    assert [path.read_bytes() for path in outs] == before
    assert not (tmp_path / "x.vcf.partial").exists()
