"""A checkpoint of any layout continues under any other, as if nothing had changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hyena_dist.config.run import RunConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.world import join_world
from hyena_dist.train.checkpoint.write import CheckpointWriter
from hyena_dist.train.loop import Loop
from hyena_dist.train.pretraining import Pretraining
from hyena_dist.train.resume import find_resume_point
from tests.distributed.parity import Layout
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks

LAYOUTS = {
    "alone": (Layout(), "zero1"),
    "zero3": (Layout(data=2), "zero3"),
    "tp2 cp2 zero1": (Layout(tensor=2, context=2), "zero1"),
    "dp4 zero3": (Layout(data=4), "zero3"),
    "tp2 sp zero2": (Layout(tensor=2, sequence_parallel=True), "zero2"),
    "zero0": (Layout(data=2), "zero0"),
    "tp2 dp2 zero3_offload": (Layout(tensor=2, data=2), "zero3_offload"),
    "cp2 zero2_offload": (Layout(context=2), "zero2_offload"),
    "tp2 dp2 zero0": (Layout(tensor=2, data=2), "zero0"),
}
PAIRS = [
    ("zero3", "tp2 cp2 zero1"),
    ("tp2 cp2 zero1", "zero3"),
    ("zero3", "zero0"),
    ("zero0", "tp2 sp zero2"),
    ("tp2 sp zero2", "tp2 dp2 zero3_offload"),
    ("tp2 dp2 zero3_offload", "alone"),
    ("alone", "cp2 zero2_offload"),
    ("tp2 cp2 zero1", "alone"),
]
FIRST, LAST = 3, 6
# Order 3 cuts tensors in blocks; numbers of parameters that 2 and 4 do not divide, and fewer rows than ranks.
MODEL = {"d_model": 16, "n_layer": 2, "order": 3, "l_max": 128, "filter_order": 15, "embed_dropout": 0.1}
MODEL |= {"resid_dropout": 0.1, "layer_pattern": "HA", "num_attention_heads": 4, "tie_embeddings": False}


def pass_on(config: RunConfig, out: Path) -> None:
    """Continue from the run's checkpoint and save again, without a step between."""
    world = join_world(timeout_s=60)
    objective = Pretraining(config)
    point = find_resume_point(config, config, objective.fingerprint, world, "auto")
    loop = Loop(config, objective, point, world)
    saver = CheckpointWriter(out, loop.engine, objective.model_files(loop.model), config, loop.mesh, print)
    saver.save(loop.state, wait=True)


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Everything that a checkpoint holds, by name."""
    found: dict[str, Tensor] = {}
    for file in checkpoint.glob("*.safetensors"):
        held = load_file(file)
        assert not held.keys() & found.keys()
        found |= held
    return found


def step_folder(config: RunConfig, step: int) -> Path:
    return config.run_dir / f"checkpoints/step-{step:08d}"


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resharding")


@pytest.fixture
def run_of(make_config: Callable[..., RunConfig], output_dir: Path) -> Callable[..., RunConfig]:
    """The run of a layout; with `after`, its continuation from a checkpoint of that layout."""

    def make(name: str, after: str = "") -> RunConfig:
        layout, zero = LAYOUTS[name]
        train: dict[str, Any] = {
            "curriculum": [{"seq_length": 48, "train_iters": 4}, {"seq_length": 128, "train_iters": 2}],
            "global_batch_size": 8,
            "micro_batch_size": 2 if layout.data < 4 else 1,
            "log_interval": 1,
            "save_interval": FIRST,
        }
        return make_config(
            name=f"{after}_{name}".replace(" ", "-").lstrip("_"),
            output_dir=str(output_dir),
            model=MODEL,
            train=train,
            parallel=layout.parallel(zero=zero).model_dump(),
        )

    return make


@pytest.fixture
def trained(run_of: Callable[..., RunConfig]) -> Callable[[str], RunConfig]:
    """The uninterrupted run of a layout, trained when first asked for."""

    def train(name: str) -> RunConfig:
        config = run_of(name)
        if not (config.run_dir / "summary.json").exists():
            run_ranks(LAYOUTS[name][0].ranks, train_here, config)
        return config

    return train


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[f"{a} to {b}" for a, b in PAIRS])
def test_continues(
    before: str, after: str, run_of: Callable[..., RunConfig], trained: Callable[[str], RunConfig]
) -> None:
    """The next losses and AdamW's state after them are those of one process that was never interrupted."""
    reference, config = trained("alone"), run_of(after, before)
    shutil.copytree(step_folder(trained(before), FIRST), step_folder(config, FIRST))
    run_ranks(LAYOUTS[after][0].ranks, train_here, config)

    expected = [row for row in curve(reference.run_dir) if row["step"] > FIRST]
    actual = curve(config.run_dir)
    assert [row["step"] for row in actual] == [4, 5, 6, 6]
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    continued, whole = tensors(step_folder(config, LAST)), tensors(step_folder(reference, LAST))
    assert continued.keys() == whole.keys()
    for name, value in whole.items():
        difference = (continued[name] - value).abs().max() / value.abs().max()
        assert difference < 2e-5, f"{name} differs by {difference:.1e}"


@pytest.mark.parametrize("name", ["tp2 cp2 zero1", "tp2 sp zero2", "tp2 dp2 zero3_offload", "tp2 dp2 zero0"])
def test_the_same_layout_continues_bit_for_bit(
    name: str, run_of: Callable[..., RunConfig], trained: Callable[[str], RunConfig]
) -> None:
    reference, config = trained(name), run_of(name, "again")
    shutil.copytree(step_folder(reference, FIRST), step_folder(config, FIRST))
    run_ranks(LAYOUTS[name][0].ranks, train_here, config)
    assert curve(config.run_dir) == [row for row in curve(reference.run_dir) if row["step"] > FIRST]
    files = sorted(step_folder(reference, LAST).glob("*.safetensors"))
    assert len(files) == 1 + LAYOUTS[name][0].data * LAYOUTS[name][0].context
    for file in files:
        assert file.read_bytes() == (step_folder(config, LAST) / file.name).read_bytes(), file.name


def test_nothing_is_lost_on_the_way(
    run_of: Callable[..., RunConfig], trained: Callable[[str], RunConfig], output_dir: Path
) -> None:
    """From layout to layout through all of them, every bit of weights and moments arrives, whole and once."""
    source = step_folder(trained("zero3"), FIRST)
    first = tensors(source)
    config = run_of("alone")
    parameters = {name: p.shape for name, p in HyenaDNA(config.model).named_parameters()}
    expected = {f"{key}.{name}": shape for name, shape in parameters.items() for key in ("exp_avg", "exp_avg_sq")}
    expected |= parameters
    assert {name: t.shape for name, t in first.items() if "deltas" not in name} == expected
    assert all(t.any() for t in first.values())
    for name, (layout, _) in LAYOUTS.items():
        config = run_of(name, "passed")
        shutil.copytree(source, step_folder(config, FIRST))
        run_ranks(layout.ranks, pass_on, config, output_dir / f"{name} passes on")
        source = output_dir / f"{name} passes on/step-{FIRST:08d}"
        arrived = tensors(source)
        assert arrived.keys() == first.keys()
        for key, value in first.items():
            assert torch.equal(arrived[key], value), f"{key} after {name}"
        # As many files as ranks hold different shards, none much larger than another.
        sizes = [sum(t.numel() for t in load_file(f).values()) for f in source.glob("optimizer-*.safetensors")]
        assert len(sizes) == layout.data * layout.context
        assert max(sizes) - min(sizes) <= max(t.numel() for t in first.values())
