"""The sequences are those that a model, a seed and a number determine, from Python and from the command line."""

import copy
import doctest
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hyena_dist
from hyena_dist.cli import main
from hyena_dist.data.tokenizer import encode
from hyena_dist.errors import UserError
from hyena_dist.generation import samples
from hyena_dist.generation.sampling import Sampling, draw, uniforms

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests/golden/tiny"


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (test,) = doctest.DocTestFinder(recurse=False).find(hyena_dist.generate, "example", globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_sequences_are_those_of_full_forward_passes(temperature: float) -> None:
    model = hyena_dist.load(TINY, dtype=torch.float64)
    (found,) = hyena_dist.generate(model, "GATTACA", length=60, temperature=temperature, seed=3)
    ids = torch.from_numpy(encode("GATTACA").copy())[None]
    random = uniforms(3, 0, 0, 60)
    for number in random:
        with torch.no_grad():
            logits = model(ids).logits[:, -1, 7:11]
        base = draw(Sampling(temperature).probabilities(logits.numpy()), np.array([number]))
        ids = torch.cat((ids, torch.from_numpy(base + 7)[None].to(torch.uint8)), dim=1)
    assert encode(found).tolist() == ids[0, 7:].tolist()


@pytest.mark.parametrize("prompt", ["", "ACGTN"])
def test_a_sequence_is_the_same_whatever_is_generated_beside_it(prompt: str) -> None:
    model = hyena_dist.load(TINY)
    whole = hyena_dist.generate(model, prompt, length=200, n=7, seed=5)
    assert len(set(whole)) == 7
    for batch in (1, 3, 4):
        assert hyena_dist.generate(model, prompt, length=200, n=7, seed=5, batch=batch) == whole
    assert hyena_dist.generate(model, prompt, length=200, seed=5) == whole[:1]
    assert hyena_dist.generate(model, prompt, length=200, seed=6) != whole[:1]
    shorter = hyena_dist.generate(model, prompt, length=90, n=7, seed=5)
    assert [text[:90] for text in whole] == shorter


def test_limits_hold_with_the_prompt() -> None:
    model = hyena_dist.load(TINY)
    found = hyena_dist.generate(model, "GGGTTT", length=100, n=3, max_run=3, no_repeat=6, with_prompt=True)
    for text in found:
        assert text.startswith("GGGTTT")
        assert not any(base * 4 in text for base in "ACGT")
        assert len({text[i : i + 6] for i in range(101)}) == 101


def test_the_first_base_without_a_prompt_is_drawn_evenly() -> None:
    first = hyena_dist.generate(hyena_dist.load(TINY), length=1, n=400)
    assert {base: round(first.count(base) / 400, 1) for base in "ACGT"} == dict.fromkeys(
        "ACGT", pytest.approx(0.25, abs=0.06)
    )


def test_a_fasta_of_prompts_and_one_of_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.fa"
    prompts.write_text(">a about it\nACGT\nAC\n>b\nTTT\n")
    expected = hyena_dist.generate(TINY, {"a": "ACGTAC", "b": "TTT"}, length=100, n=2, with_prompt=True)
    arguments = [
        "generate",
        "--model",
        str(TINY),
        "--prompts",
        str(prompts),
        "-n",
        "2",
        "--length",
        "100",
        "--with-prompt",
    ]
    assert main([*arguments, "--out", str(tmp_path / "new.fa")]) == 0
    assert f"wrote {tmp_path / 'new.fa'}" in capsys.readouterr().out
    text = (tmp_path / "new.fa").read_text()
    assert max(map(len, text.split("\n"))) == 80
    records = [record.split("\n", 1) for record in text.split(">")[1:]]
    assert [name for name, _ in records] == ["a_1", "a_2", "b_1", "b_2"]
    assert [body.replace("\n", "") for _, body in records] == expected
    assert hyena_dist.generate(TINY, prompts, length=100, n=2, with_prompt=True) == expected
    for batch in ("1", "2"):
        assert main([*arguments, "--batch", batch]) == 0
        assert capsys.readouterr().out == text


class Terminal(io.StringIO):
    """A terminal that notes how much of the text was there at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[int] = []

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.flushed.append(len(self.getvalue()))


def test_a_terminal_sees_every_base_as_it_comes() -> None:
    terminal = Terminal()
    assert hyena_dist.generate(TINY, length=10, out=terminal) is None
    header = len(">sample_1\n")
    assert terminal.flushed[:10] == [header + base for base in range(1, 11)]


class Gone(io.StringIO):
    """A stream whose reader leaves at the first flush."""

    reader_left = False

    def flush(self) -> None:
        self.reader_left = True


def test_nothing_is_generated_for_a_reader_that_left() -> None:
    stream = Gone()
    hyena_dist.generate(TINY, length=250, n=3, batch=1, out=stream)
    assert len(stream.getvalue()) == len(">sample_1\n") + 80 + 1


def test_a_reader_that_leaves_ends_it_without_an_error() -> None:
    command = [sys.executable, "-m", "hyena_dist", "generate", "--model", str(TINY), "--length", "250"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    assert writer.stdout.read(5) == b">samp"
    writer.stdout.close()
    assert writer.wait(timeout=60) == 0
    assert writer.stderr is not None
    assert writer.stderr.read() == b""


def test_sequences_at_once_are_as_many_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hyena_dist.load(TINY)
    assert samples.at_once(model, 200) == 64
    monkeypatch.setattr(samples, "MEMORY", samples.memory_bytes(model.config, 9, 200))
    assert samples.at_once(model, 200) == 9
    monkeypatch.setattr(samples, "MEMORY", 0)
    assert samples.at_once(model, 200) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--length", "259"], "259 new bases after the 0 of prompt 'sample' are beyond the 258 that the model reads"),
        (["--prompt", "ACZ"], "the prompt: letter 'Z' at position 2 is not a nucleotide"),
        (["--prompts", "nowhere.fa"], "there is no file nowhere.fa"),
        (["--prompts", "peaks.bed"], "peaks.bed has intervals, and prompts are sequences"),
        (["--temperature=-1"], "temperature -1.0 is not a number from 0 on"),
        (["--top-k", "5"], "top_k 5 is not one of 1 to 4"),
        (["--no-repeat", "1"], "no_repeat 1 would end after four bases"),
        (["--out", "x.txt"], "x.txt ends in .txt; name a file that ends in .fa or .fasta or .fna"),
        (["--out", "nowhere/x.fa"], "nowhere/x.fa cannot be written, since there is no folder nowhere"),
        (["--out", "there.fa"], "there.fa is there already and is not replaced"),
        (["--device", "cuda"], "device cuda is asked for and this machine has no GPU"),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if options == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(tmp_path)
    Path("there.fa").write_text("mine")
    assert main(["generate", "--model", str(TINY), *options]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert Path("there.fa").read_text() == "mine"


def test_a_model_that_gives_nan_is_an_error() -> None:
    model = copy.deepcopy(hyena_dist.load(TINY))
    with torch.no_grad():
        model.backbone.ln_f.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="the model gives NaN or infinite logits"):
        hyena_dist.generate(model, "ACGT", length=5)


def test_a_model_with_attention_is_refused_before_anything_is_written() -> None:
    config = hyena_dist.ModelConfig(d_model=8, layer_pattern="HA", num_attention_heads=2)
    stream = io.StringIO()
    with pytest.raises(UserError, match="layer_pattern HA has layers of kind A"):
        hyena_dist.generate(hyena_dist.HyenaDNA(config), length=5, out=stream)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("what", ["length", "n", "batch"])
def test_numbers_below_one_are_refused(what: str) -> None:
    with pytest.raises(UserError, match=f"{what} 0 is not a whole number from 1 on"):
        hyena_dist.generate(TINY, **{what: 0})
