"""Small checkpoints without a model, whole as far as their hashes tell."""

import json
from pathlib import Path

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train.checkpoint.format import fingerprint
from hyena_dist.train.state import TrainState


def write_checkpoint(directory: Path, step: int, config: RunConfig | None = None) -> Path:
    """Make the checkpoint of a step, of a run if one is given."""
    folder = directory / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(TrainState(step=step).to_json())
    if config is not None:
        (folder / "run.yaml").write_text(dump_config(config))
    files = {path.name: fingerprint(path) for path in folder.iterdir()}
    (folder / "files.json").write_text(json.dumps(files))
    return folder


def damage(checkpoint: Path) -> None:
    """Change a byte of a checkpoint, but no file's size."""
    text = (checkpoint / "state.json").read_text()
    (checkpoint / "state.json").write_text(text[:-1] + " ")
