"""The checkpoints that a run may continue, and the folders in which a model is found."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.config.file import dump_config, parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.checkpoint.format import check_compatible, model_folder
from hyena_dist.train.checkpoint.load import load_optimizer, load_tensors
from hyena_dist.train.checkpoint.tensor_file import write_tensors
from hyena_dist.train.export import write_model
from tests.checkpoints import write_checkpoint

STAGES = [{"seq_length": 32, "train_iters": 2}, {"seq_length": 64, "train_iters": 2}]
TRAIN = {"curriculum": STAGES, "global_batch_size": 8}


def make(**sections: Any) -> RunConfig:
    return parse_config({"data": {"path": "store"}, "train": TRAIN, "model": {"d_model": 16}} | sections, "test")


def second_stage(**fields: Any) -> dict[str, Any]:
    return TRAIN | {"curriculum": [STAGES[0], STAGES[1] | fields]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(dump_config(make()))
    return tmp_path


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"name": "other", "output_dir": "elsewhere"},
        {"parallel": {"zero": "zero3_offload", "tensor_model_parallel_size": 2, "context_parallel_size": 4}},
        {"parallel": {"sequence_parallel": True, "activation_checkpointing": True}},
        {"train": TRAIN | {"micro_batch_size": 4, "micro_batch_tokens": 64, "save_interval": 1}},
        {"train": second_stage(micro_batch_size=2)},
        {"train": second_stage(parallel={"context_parallel_size": 2, "zero": "zero3"})},
        {"train": TRAIN | {"keep_last": 5, "save_retain_interval": 1000}},
        {"train": TRAIN | {"async_save": False, "on_nan": "skip", "spike_sigma": 6.0, "timeout_s": 60.0}},
        {"evaluation": {"lengths": [64]}, "tracking": {"mlflow": False}},
        {"data": {"path": "https://example.org/shards", "workers": 3, "prefetch": 5, "timeout_s": 9.0}},
    ],
    ids=str,
)
def test_what_is_free(saved: Path, sections: dict[str, Any]) -> None:
    check_compatible(saved, make(**sections))


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"model": {"d_model": 32}}, r"another architecture: model\.d_model was 16 and is now 32"),
        ({"seed": 1}, r"another run: seed was 0 and is now 1; set it back, or start a new run with name="),
        ({"precision": "bf16"}, "precision was 'fp32' and is now 'bf16'"),
        ({"optimizer": {"betas": [0.9, 0.95]}}, r"optimizer\.betas\[1\] was 0\.999 and is now 0\.95"),
        ({"train": TRAIN | {"global_batch_size": 16}}, r"train\.global_batch_size was 8 and is now 16"),
        ({"train": second_stage(train_iters=3)}, r"train\.curriculum\[1\]\.train_iters was 2 and is now 3"),
        ({"train": second_stage(seq_length=128)}, r"train\.curriculum\[1\]\.seq_length was 64 and is now 128"),
        ({"train": TRAIN | {"curriculum": STAGES[:1]}}, r"train\.curriculum was \[.*\] and is now \["),
        (
            {"data": {"path": "store", "reverse_complement": True}},
            r"data\.reverse_complement was False and is now True",
        ),
        ({"data": {"path": "store", "sampling": "uniform"}}, r"data\.sampling was 'interval' and is now 'uniform'"),
        (
            {"data": {"path": "store", "soft_mask_loss_weight": 0.1}},
            r"data\.soft_mask_loss_weight was 1\.0 and is now 0\.1",
        ),
    ],
    ids=str,
)
def test_what_is_not(saved: Path, sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_compatible(saved, make(**sections))


def test_a_run_from_before_a_field_existed(saved: Path) -> None:
    text = (saved / "run.yaml").read_text()
    assert "  tie_embeddings: true\n" in text
    (saved / "run.yaml").write_text(text.replace("  tie_embeddings: true\n", ""))
    check_compatible(saved, make())
    with pytest.raises(UserError, match=r"model\.tie_embeddings was True and is now False"):
        check_compatible(saved, make(model={"d_model": 16, "tie_embeddings": False}))


def test_model_and_no_optimizer(tmp_path: Path) -> None:
    """A folder with a model alone, as an export or a checkpoint from before, gives its weights and says what lacks."""
    model, other = HyenaDNA(ModelConfig(d_model=8, l_max=32)), HyenaDNA(ModelConfig(d_model=8, l_max=32))
    write_model(tmp_path, model)
    load_tensors(tmp_path / "model.safetensors", other, Mesh())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    optimizer = torch.optim.AdamW(other.parameters())
    engine = SimpleNamespace(stage=0, model=other, mesh=Mesh(), engine=SimpleNamespace(optimizer=optimizer))
    (tmp_path / "state.json").write_text('{"step": 3}')
    with pytest.raises(UserError, match=r"has no exp_avg\.backbone\..*; continue from another checkpoint"):
        load_optimizer(tmp_path, engine)  # type: ignore[arg-type]


def test_others_may_read_it(tmp_path: Path) -> None:
    model = HyenaDNA(ModelConfig(d_model=8, l_max=32))
    tmp_path.chmod(0o755)
    write_model(tmp_path, model)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_where_a_model_is(tmp_path: Path) -> None:
    assert model_folder(tmp_path) == tmp_path, "a published folder is itself"
    for step, content in ((1, "{}"), (2, "{}"), (3, None)):
        folder = tmp_path / f"run/checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        if content:
            (folder / "files.json").write_text(content)
    assert model_folder(tmp_path / "run").name == "step-00000002", "the newest whole one"
    assert model_folder(tmp_path / "run/checkpoints/step-00000001").name == "step-00000001"
    (folder / "files.json").write_text('{"model.safetensors": [3, "abc"]}')
    with pytest.raises(UserError, match=r"model\.safetensors is missing or not what was saved"):
        model_folder(tmp_path / "run")
    (tmp_path / "empty/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no whole checkpoint; train first"):
        model_folder(tmp_path / "empty")


def sentence_for_others(path: Path) -> str:
    """Return what model_folder says to a user without rights; root, who has all, becomes nobody for it."""
    script = (
        "import os, sys; from pathlib import Path; from hyena_dist.train.checkpoint.format import model_folder\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: model_folder(Path(sys.argv[1]))\n"
        "except Exception as error: print(f'{type(error).__name__}: {error}')"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_checkpoint_that_may_not_be_read() -> None:
    """Whoever lacks the right to read a run is told so, and not to train first."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run = Path(folder) / "run"
        checkpoint = write_checkpoint(run / "checkpoints", 10)
        assert sentence_for_others(run) == ""
        for closed in (checkpoint / "files.json", checkpoint / "state.json", checkpoint, run / "checkpoints", run):
            mode = closed.stat().st_mode
            closed.chmod(0)
            assert sentence_for_others(run).startswith("UserError: "), closed
            assert "Permission denied" in sentence_for_others(run), closed
            closed.chmod(mode)


def test_a_checkpoint_that_is_not_whole(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoints", 10).joinpath("files.json").unlink()
    with pytest.raises(UserError, match=r"step-00000010 is not whole, since it has no files\.json"):
        model_folder(tmp_path)
    (tmp_path / "checkpoints/step-00000010/files.json").write_text('{"state.json": 3}')
    with pytest.raises(UserError, match=r"files\.json is damaged"):
        model_folder(tmp_path)


@pytest.mark.parametrize(("state", "updates"), [({"step": 3}, 3.0), ({"step": 3, "updates": 2, "skipped": [2]}, 2.0)])
def test_adamw_counts_updates(tmp_path: Path, state: dict[str, object], updates: float) -> None:
    """Steps that were skipped updated nothing; checkpoints from before they were counted had none."""
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    engine = SimpleNamespace(stage=0, model=model, mesh=Mesh(), engine=SimpleNamespace(optimizer=optimizer))
    moments = {key: torch.rand(1, 2) for key in ("exp_avg", "exp_avg_sq")}
    write_tensors(tmp_path / "optimizer-00001-of-00001.safetensors", {f"{k}.weight": t for k, t in moments.items()})
    (tmp_path / "state.json").write_text(json.dumps(state))
    load_optimizer(tmp_path, engine)  # type: ignore[arg-type]
    found = optimizer.state[model.weight]
    assert float(found["step"]) == updates
    assert all(torch.equal(found[key], t) for key, t in moments.items())
