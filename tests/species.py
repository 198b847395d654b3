"""A small store of labelled species, and runs that tell them apart."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.config.run import RunConfig
from hyena_dist.tasks.resolve import complete

SPECIES = ("ape", "bat", "cow")


def write_species(folder: Path, split: tuple[float, ...] = (0.6, 0.2, 0.2)) -> Path:
    """Make a store of three species of 9,000 bases that differ in their shares of A and C, by little."""
    generator = np.random.default_rng(0)
    named = []
    for number, name in enumerate(SPECIES):
        shares = np.array([0.25 + 0.06 * (number == 0), 0.25 + 0.06 * (number == 1), 0.25, 0.25])
        bases = generator.choice(list("ACGT"), 9_000, p=shares / shares.sum())
        (folder / f"{name}.fa").write_text(f">chr1\n{''.join(bases)}\n")
        named.append(f"{name}={folder / name}.fa")
    build_store(named, folder / "store", BuildOptions(BlockSplits(split)), say=lambda _: None)
    return folder / "store"


def species_run(store: Path, folder: Path, name: str, **sections: Any) -> RunConfig:
    """A run of length warm-up on a tiny model; keyword arguments replace whole sections."""
    tree: dict[str, Any] = {
        "name": name,
        "output_dir": str(folder),
        "task": {"data": {"path": str(store), "format": "species"}},
        "model": "scratch",
        "architecture": {"d_model": 16, "n_layer": 2, "l_max": 256, "filter_order": 16, "embed_dropout": 0.1},
        "data": {"reverse_complement": True},
        "optimizer": {"lr": 3e-3},
        "train": {
            "curriculum": [
                {"seq_length": 16, "train_iters": 4},
                {"seq_length": 64, "train_iters": 4},
                {"seq_length": 256, "train_iters": 4},
            ],
            "global_batch_size": 8,
            "log_interval": 1,
            "eval_interval": 4,
            "save_interval": 2,
        },
        "evaluation": {"max_tokens": 20_000, "interval_max_tokens": 3_000},
        "tracking": {"mlflow": False},
    }
    return complete(tree | sections, "test")
