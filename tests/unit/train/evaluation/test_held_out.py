"""An evaluation and its breakdowns, against losses of single targets that are grouped here."""

import doctest
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits
from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.tokenizer import A
from hyena_dist.train.evaluation import held_out
from hyena_dist.train.evaluation.held_out import evaluate, load_for_evaluation
from hyena_dist.train.evaluation.report import tables, to_json, write_folder

VALID = {"human.a": (200, 900), "mouse.b": (0, 150), "mouse.c": (0, 33)}
GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GenomeStore:
    path = tmp_path_factory.mktemp("held_out")
    draw = np.random.default_rng(0)
    a = draw.choice(list("ACGT"), 1000)
    a[300:340] = "N"
    b, c = (draw.choice(list("ACGT"), VALID[name][1]) for name in ("mouse.b", "mouse.c"))
    (path / "human.fa").write_text(f">a\n{''.join(a)}\n")
    (path / "mouse.fa").write_text(f">b\n{''.join(b)}\n>c\n{''.join(c)}\n")
    rows = [f"{name}\t{start}\t{end}\tvalid\n" for name, (start, end) in VALID.items()]
    (path / "x.bed").write_text("human.a\t0\t200\ttrain\n" + "".join(rows))
    labelled = [f"{kind}={path / kind}.fa" for kind in ("human", "mouse")]
    build_store(labelled, path / "s", BuildOptions(BedSplits(path / "x.bed")), say=lambda _: None)
    return GenomeStore.open(path / "s")


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(ModelConfig(d_model=8, l_max=512)).eval()


@torch.no_grad()
def losses_by_part(model: HyenaDNA, store: GenomeStore, length: int, last: list[int]) -> dict[tuple, list[float]]:
    found = defaultdict(list)
    for window in tile(store.splits["valid"], length, 10**6):
        tokens = torch.from_numpy(store.read(*window)).long()
        logs = model(tokens[None, :-1]).logits[0, :, :12].double().log_softmax(-1)
        for before in range(1, length + 1):
            base = tokens[before]
            if not A <= base < A + 4:
                continue
            parts = [("whole",), ("by_contig", window.contig), ("by_species", window.contig.split(".")[0])]
            octave = max(before - 1, 0).bit_length()
            parts.append(("by_position", (2 ** (octave - 1) + 1 if octave else 1, min(2**octave, length))))
            parts += [("last", most) for most in last if before > length - most]
            for part in parts:
                found[part].append(-logs[before - 1, base].item())
    return found


@pytest.mark.parametrize("length", [3, 32, 100])
def test_breakdowns_are_means_of_their_targets(model: HyenaDNA, store: GenomeStore, length: int) -> None:
    last = [1] if length == 3 else [7, 32]
    found = evaluate(model, store, lengths=[length], last=last, micro_batch_tokens=150).by_length[length]
    expected = losses_by_part(model, store, length, last)
    scored = {("whole",): found.whole}
    for kind in ("by_contig", "by_species", "by_position", "last"):
        scored |= {(kind, name): score for name, score in getattr(found, kind).items()}
    assert scored.keys() == expected.keys()
    for part, score in scored.items():
        assert score.tokens == len(expected[part]), part
        assert score.loss == pytest.approx(math.fsum(expected[part]) / len(expected[part]), rel=1e-6), part


@pytest.mark.parametrize("same_bases", [False, True])
@pytest.mark.parametrize("max_tokens", [96, 10**6])
def test_every_held_out_base_is_scored_or_has_a_reason(
    model: HyenaDNA, store: GenomeStore, same_bases: bool, max_tokens: int
) -> None:
    at = evaluate(model, store, lengths=[32], max_tokens=max_tokens, same_bases=same_bases).by_length[32]
    assert at.whole.tokens + sum(at.unscored) == at.coverage.all_bases == 700 + 150 + 33
    assert (at.unscored.max_tokens > 0) == (max_tokens == 96)
    assert at.unscored.no_window == (3 if same_bases else (700 - 21 * 32) + (150 - 4 * 32) + 1)
    if max_tokens == 96:
        assert "beyond --max-tokens" in str(at.unscored)
    else:
        assert at.unscored.n == 40


def test_bf16_computes_activations_in_bf16(model: HyenaDNA, store: GenomeStore, tmp_path: Path) -> None:
    model.save_published(tmp_path)
    here = torch.device("cpu")
    full, half = (load_for_evaluation(tmp_path, [64], None, here, precision) for precision in ("fp32", "bf16"))
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    exact, rounded = (evaluate(each, store, lengths=[64]).by_length[64].whole for each in (full, half))
    assert exact.tokens == rounded.tokens
    assert 0 < abs(exact.loss - rounded.loss) < 1e-2 * exact.loss


def test_tables_json_and_pictures(model: HyenaDNA, store: GenomeStore, tmp_path: Path) -> None:
    found = evaluate(model, store, lengths=[32, 128], last=[16], same_bases=True)
    text = "\n".join(tables(found))
    for word in ("species", "mouse", "contig", "bases before the target", "65 to 128", "last bases", "times the perpl",
                 "Markov chain of order 8", f"{found.by_length[128].by_contig['mouse.b'].ppl:.4f} ±"):  # fmt: skip
        assert word in text
    content = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert content["ppl_by_length"]["128"]["tokens"] == found.by_length[128].whole.tokens
    assert content["parts"]["128"]["by_contig"]["mouse.b"]["ppl"] == found.by_length[128].by_contig["mouse.b"].ppl
    assert content["parts"]["128"]["gain"]["16"]["ppl"] == found.by_length[128].gain["16"].ppl
    pictures = write_folder(found, tmp_path / "out", content)
    names = ("length", "position", "contig", "species")
    assert {path.name for path in pictures} == {*(f"ppl_by_{name}.png" for name in names), "ppl_of_last_16.png"}
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert len(path.with_suffix(".csv").read_text().splitlines()) > 1
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == content


def test_many_contigs_do_not_fill_the_terminal(tmp_path: Path, model: HyenaDNA) -> None:
    draw = np.random.default_rng(0)
    texts = [(f"c{i}", "".join(draw.choice(list("ACGT"), 40 + i))) for i in range(30)]
    (tmp_path / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in texts))
    (tmp_path / "x.bed").write_text("c0\t0\t40\ttrain\n" + "".join(f"{n}\t0\t{len(t)}\tvalid\n" for n, t in texts[1:]))
    build_store([tmp_path / "x.fa"], tmp_path / "s", BuildOptions(BedSplits(tmp_path / "x.bed")), say=lambda _: None)
    found = evaluate(model, tmp_path / "s", lengths=[16], same_bases=True)
    lines = tables(found)
    assert "and 9 more with fewer bases, which --json and --out have" in lines
    assert sum(line.startswith("c") and line[1].isdigit() for line in lines) == 20
    assert not any(line.startswith("c1 ") for line in lines), "the longest are shown"
    assert len(found.by_length[16].by_contig) == 29


def test_mistakes_are_said_before_the_work(model: HyenaDNA, store: GenomeStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="length 513 is longer than the model's l_max 512; choose less"):
        evaluate(model, store, lengths=[64, 513])
    with pytest.raises(UserError, match="windows of context 64 have no last 65 bases; choose 1 to 64"):
        evaluate(model, store, lengths=[64, 128], last=[8, 65])
    with pytest.raises(UserError, match="is not a hyena-dist store"):
        evaluate(model, tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        load_for_evaluation(tmp_path / "absent", [64], None, torch.device("cpu"))
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no whole checkpoint; train first"):
        load_for_evaluation(tmp_path / "run", [64], None, torch.device("cpu"))


def test_a_model_that_gives_nan_is_an_error(store: GenomeStore) -> None:
    broken = HyenaDNA(ModelConfig(d_model=8, l_max=128))
    with torch.no_grad():
        broken.backbone.ln_f.weight[3] = math.nan
    with pytest.raises(UserError, match=r"the loss is nan on .* the weight backbone\.ln_f\.weight is not finite"):
        evaluate(broken, store, lengths=[64])


def test_a_published_folder_is_a_checkpoint(tmp_path: Path) -> None:
    model = HyenaDNA(ModelConfig(d_model=8, l_max=128))
    model.save_published(tmp_path)
    loaded = load_for_evaluation(tmp_path, [128], None, torch.device("cpu"))
    assert not loaded.training
    assert torch.equal(loaded.backbone.ln_f.weight.cpu(), model.backbone.ln_f.weight)
    with pytest.raises(UserError, match="length 129 is longer than the model's l_max 128; choose less"):
        load_for_evaluation(tmp_path, [64, 129], None, torch.device("cpu"))


def test_the_example(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/golden").symlink_to(GOLDEN)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/genome").symlink_to(small_store)
    monkeypatch.chdir(tmp_path)
    (example,) = (test for test in doctest.DocTestFinder().find(held_out) if test.name.endswith(".evaluate"))
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(failed=0, attempted=4)
