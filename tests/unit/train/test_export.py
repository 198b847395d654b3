"""A model alone in a folder, in either format, and what is never overwritten."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hyena_dist import HyenaDNA, ModelConfig, UserError, load_published
from hyena_dist.system.locks import lock
from hyena_dist.train import export as module
from hyena_dist.train.export import Format, export

GOLDEN = Path(__file__).parents[2] / "golden"
WEIGHTS: dict[Format, str] = {"safetensors": "model.safetensors", "published": "weights.ckpt"}


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def published(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(folder / "weights.ckpt", weights_only=True)["state_dict"]
    return tensors


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("golden", ["tiny", "order3-checkpointed"])
def test_there_and_back(golden: str, tmp_path: Path) -> None:
    """Published -> safetensors -> published is the same file's content; config.json stays as it was."""
    export(GOLDEN / golden, tmp_path / "st")
    assert files(tmp_path / "st") == ["config.json", "model.safetensors"]
    export(tmp_path / "st", tmp_path / "pub", "published")
    assert files(tmp_path / "pub") == ["config.json", "weights.ckpt"]
    assert same_bits(published(tmp_path / "pub"), published(GOLDEN / golden))
    a, b = load_published(tmp_path / "pub"), load_published(GOLDEN / golden)
    assert a.config == b.config
    assert a.published_fields == b.published_fields


def test_newest_checkpoint_of_a_run(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.manual_seed(step)
        folder = tmp_path / f"run/checkpoints/step-{step:08d}"
        model = HyenaDNA(ModelConfig(d_model=8, l_max=32))
        folder.mkdir(parents=True)
        module.write_model(folder, model)
        (folder / "files.json").write_text("{}")
    export(tmp_path / "run", tmp_path / "deep/out")
    assert same_bits(load_file(tmp_path / "deep/out/model.safetensors"), dict(model.state_dict()))


@pytest.mark.parametrize("second", WEIGHTS)
@pytest.mark.parametrize("first", WEIGHTS)
def test_an_earlier_export_is_replaced(first: Format, second: Format, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(GOLDEN / "tiny", out, first)
    export(GOLDEN / "order3-checkpointed", out, second)
    assert files(out) == ["config.json", WEIGHTS[second]], "nothing of the first one is left to be read instead"
    assert load_published(out).config.order == 3
    assert files(tmp_path) == ["out"]


def test_other_things_are_never_overwritten(tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    shutil.copytree(GOLDEN / "tiny", source)
    (source / "expected.safetensors").unlink()
    other.mkdir()
    (other / "config.json").write_text("mine")
    (other / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out, sentence in (
        (other, r"other holds notes\.txt, which is no part of an export; choose a new or empty folder"),
        (source, "is where the model is read from; name another folder"),
        (source / "../source", "is where the model is read from"),
        (tmp_path / "file", "cannot export to .*file: Not a directory; free some space or choose another folder"),
        (Path("s3://bucket/x"), "s3://bucket/x is a URL, and output is written to this machine"),
        (tmp_path / "file/out", "cannot export to .*out: "),
    ):
        with pytest.raises(UserError, match=sentence):
            export(source, out)
    with pytest.raises(UserError, match=r"cannot read .*nowhere"):
        export(tmp_path / "nowhere", tmp_path / "new")
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_what_came_to_be_while_another_export_was_at_work_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor() as pool:
        with lock(tmp_path / ".out.partial/lock"):
            exported = pool.submit(export, GOLDEN / "tiny", out)
            time.sleep(0.5)
            out.mkdir()
            (out / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match=r"holds notes\.txt, which is no part of an export"):
            exported.result()
    assert files(out) == ["notes.txt"]


def test_two_exports_to_one_folder_leave_one_of_them_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(export, GOLDEN / "tiny", out, format) for _ in range(4) for format in WEIGHTS]:
            done.result()
    assert files(out) in (["config.json", "model.safetensors"], ["config.json", "weights.ckpt"])
    assert load_published(out).config == load_published(GOLDEN / "tiny").config
    assert files(tmp_path) == ["out"]


@pytest.mark.parametrize("format", WEIGHTS)
def test_a_full_disk_keeps_the_earlier_export(format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(GOLDEN / "tiny", tmp_path / "out")
    before = (tmp_path / "out/model.safetensors").read_bytes()

    def full(*_: object) -> None:
        # torch says RuntimeError, the other writer OSError.
        raise OSError(28, "No space left on device") if format == "safetensors" else RuntimeError("write failed\nat x")

    monkeypatch.setattr(module, "write_model" if format == "safetensors" else "save_published", full)
    with pytest.raises(UserError, match=r"(No space left on device|write failed); free some space or choose another"):
        export(GOLDEN / "order3-checkpointed", tmp_path / "out", format)
    assert files(tmp_path) == ["out"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == before
