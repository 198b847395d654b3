"""`export --format hf`: a folder with weights, tokenizer and a model card that says what the run knows."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyena_dist import HyenaDNA
from hyena_dist.cli import main
from hyena_dist.train.export import write_model
from tests.unit.hf.small import config

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json"}
SUMMARY = {
    "split": "valid", "ppl_by_length": {"256": 3.5, "1024": 3.25}, "markov_ppl": {"0": 3.99, "4": 3.75},
    "tokens": 7_503_872, "steps": 1832,
}  # fmt: skip


def run_folder(folder: Path, data: Path, shift: float = 0.0) -> Path:
    """A run's folder, as far as an export reads it."""
    checkpoint = folder / "checkpoints/step-00000001"
    checkpoint.mkdir(parents=True)
    write_model(checkpoint, HyenaDNA(config(shift=shift).architecture))
    (checkpoint / "files.json").write_text("{}")
    stages = [{"seq_length": 256}, {"seq_length": 1024}]
    data_section = {"path": str(data), "sampling": "interval", "reverse_complement": True}
    tree = {"name": "demo", "data": data_section, "train": {"curriculum": stages}}
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    return folder


def front_matter(card: str) -> dict[str, object]:
    _, front, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(front))


def test_a_run(small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", small_store)
    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        assert main(["export", str(run), str(out), "--format", "hf"]) == 0
    assert f"wrote {out}: README.md, config.json" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == FILES
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1  # whoever can read one can read all
    card = (out / "README.md").read_text()
    assert front_matter(card)["library_name"] == "transformers"
    for line in (
        "# demo",
        "lengths 256, 1,024, half of them from the opposite strand",
        "- Sources: genome.fa (SHA-256 ",
        "- 40,000 bases on 1 contigs",
        "- train: 32,000 bases in 1 regions",
        "- valid: 8,000 bases in 1 regions",
        "On the valid split, after 7,503,872 tokens in 1,832 steps:",
        "| HyenaDNA, context 1,024 | 3.2500 |",
        "| Markov chain, order 4 | 3.7500 |",
        "know only 0.05 and would compute other values",
        "PLACEHOLDER: name the licence",
    ):
        assert line in card
    assert str(tmp_path) not in card
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("acgt")["input_ids"] == [7, 8, 9, 10, 1]  # as the run read them
    assert tokenizer.model_max_length == 40
    assert AutoModelForCausalLM.from_pretrained(out).config.shift == 0.0


def test_data_that_are_gone(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", tmp_path / "gone", shift=0.05)
    assert main(["export", str(run), str(tmp_path / "out"), "--format", "hf"]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "PLACEHOLDER: the data, which were not at hand" in card
    assert "standalone code load these weights as well" in card


def test_a_published_model_keeps_its_tensors_and_tokenizer(tmp_path: Path) -> None:
    assert main(["export", str(GOLDEN / "tiny"), str(tmp_path / "out"), "--format", "hf"]) == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("acgt")["input_ids"] == [6, 6, 6, 6, 1]
    card = (tmp_path / "out/README.md").read_text()
    assert "PLACEHOLDER: what the model was trained on" in card
    assert "Trained with hyena-dist" not in card
    stored = load_file(tmp_path / "out/model.safetensors")
    assert stored["lm_head.weight"].equal(stored["hyena.backbone.embeddings.word_embeddings.weight"])


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", str(GOLDEN / "tiny"), str(tmp_path), "--format", "hf"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
