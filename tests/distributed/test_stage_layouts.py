"""Stages with layouts of their own: what each sends and takes is what the plan says of that stage, in a real run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.config.run import RunConfig
from hyena_dist.plan.memory import GIB, step_memory
from tests.distributed.training import check_traffic, train_counting, train_here
from tests.processes import run_ranks
from tests.tensor_memory import peak_of_tensors

MODEL = {"d_model": 64, "l_max": 128, "filter_order": 8, "layer_pattern": "HA", "num_attention_heads": 4}


def stage(length: int, **parallel: Any) -> dict[str, Any]:
    return {"seq_length": length, "train_iters": 2, "micro_batch_size": 2, "parallel": parallel}


TP2CP2 = {"tensor_model_parallel_size": 2, "context_parallel_size": 2}


@pytest.mark.parametrize(
    ("ranks", "curriculum"),
    [
        (2, [stage(32), stage(64, context_parallel_size=2, zero="zero2"), stage(96, tensor_model_parallel_size=2)]),
        (
            4,
            [
                stage(32, zero="zero2"),
                stage(64, **TP2CP2, sequence_parallel=True, activation_checkpointing=True),
                stage(128, context_parallel_size=4, zero="zero3"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_traffic(
    ranks: int, curriculum: list[dict[str, Any]], precision: str, make_config: Callable[..., RunConfig]
) -> None:
    train = {"curriculum": curriculum, "global_batch_size": 16, "log_interval": 1, "save_interval": 0}
    config = make_config(model=MODEL, train=train, precision=precision)
    for _ in config.segments(ranks):
        run_ranks(ranks, train_counting, config)
    check_traffic(config, ranks)


@pytest.fixture(scope="module")
def long_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million random bases: 80 % train, 20 % valid."""
    folder = tmp_path_factory.mktemp("long")
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 1_000_000))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    build_store([folder / "genome.fa"], folder / "store", BuildOptions(BlockSplits((0.8, 0.2))), say=lambda _: None)
    return folder / "store"


def peak_of_training(config: RunConfig) -> int:
    return peak_of_tensors(train_here, config)


@pytest.mark.parametrize(
    ("ranks", "batch", "parallels"),
    [
        (2, 2, [{}, {"context_parallel_size": 2}]),
        (4, 4, [TP2CP2, {"context_parallel_size": 4, "activation_checkpointing": True, "zero": "zero3"}]),
    ],
)
def test_memory(
    ranks: int, batch: int, parallels: list[dict[str, Any]], long_store: Path, make_config: Callable[..., RunConfig]
) -> None:
    """The bounds are those of tests/unit/plan/test_memory.py."""
    length = 65_536
    curriculum = [{"seq_length": length, "train_iters": 1, "micro_batch_size": 1, "parallel": p} for p in parallels]
    config = make_config(
        model={"d_model": 64, "n_layer": 3, "l_max": length, "filter_order": 16, "embed_dropout": 0.0},
        data={"path": str(long_store), "sampling": "uniform"},
        train={"curriculum": curriculum, "global_batch_size": batch, "save_interval": 0},
        evaluation={"max_tokens": 256, "lengths": [128]},
    )
    for (planned,) in config.segments(ranks):
        formula = step_memory(config, planned).total
        for measured in run_ranks(ranks, peak_of_training, config):
            assert 0.95 < formula / measured < 1.6, f"{planned.parallel}: {formula / GIB:.2f}, {measured / GIB:.2f} GiB"
