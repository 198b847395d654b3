"""The trained model that a run begins with: it completes the run's configuration, and its weights are the first ones.

Once the run has checkpoints of its own they are what continues it, and that model is not looked at again.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hyena_dist.config.file import load_config, load_tree, parse_config
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.models.published_config import model_config, read_config
from hyena_dist.train.checkpoint.format import latest, model_folder
from hyena_dist.train.state import TrainState, read_state

_FREE = {"embed_dropout", "resid_dropout", "initializer_range", "modulation_shift", "tie_embeddings"}
"""Fields of a model that a run may set otherwise: settings of training, and what published files do not say."""


def load_run(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file, which `complete` completes; no torch.

    Raises:
        UserError: what `load_config` and `complete` refuse.
    """
    return complete(load_tree(path, overrides), str(path))


def complete(tree: dict[str, Any], source: str) -> RunConfig:
    """Validate a plain tree; one with a section `init` gets the architecture of the model that the run begins with.

    Of a run, that is the newest checkpoint, and `init.model` of the result names it. No torch.

    Args:
        tree: the content of a run file.
        source: named in errors.

    Raises:
        UserError: what `parse_config` refuses, no model in that place, one of another architecture than the section
            `model` says, or one without the optimizer state that is to be kept.
    """
    init = tree.get("init")
    if not isinstance(init, dict) or not isinstance(init.get("model"), str):
        return parse_config(tree, source)
    path = Path(os.path.abspath(init["model"]))
    begun = _begun(tree)
    if begun and begun.init and path in (Path(begun.init.model), *Path(begun.init.model).parents):
        path, architecture = Path(begun.init.model), begun.model
    else:
        if not path.exists():
            raise UserError(f"there is no {path} to begin with; name a run, a checkpoint or a published folder")
        path = model_folder(path)
        architecture = model_config(read_config(path.parent if path.is_file() else path))
        if init.get("optimizer") == "keep" and not (path / "state.json").is_file():
            raise UserError(
                f"{path} is no checkpoint of a run and has no optimizer state to keep; begin with its weights alone, "
                f"by a fresh optimizer"
            )
    stated = {key: value for key, value in (tree.get("model") or {}).items() if value is not None}
    tree = tree | {"init": init | {"model": str(path)}, "model": architecture.model_dump() | stated}
    config = parse_config(tree, source)
    _check_same(architecture, config.model, path)
    return config


def first_state(config: RunConfig) -> TrainState:
    """Return the progress of a run that begins: none, but for the updates that a kept optimizer has made before."""
    if config.init is None or config.init.optimizer == "fresh":
        return TrainState()
    return TrainState(updates_before=read_state(Path(config.init.model)).updates)


def describe_beginning(config: RunConfig, data: Any) -> Iterator[str]:
    """Yield lines for people about the model that a run begins with.

    Args:
        config: a run with `init`.
        data: the fingerprint of its data.
    """
    assert config.init is not None
    folder, updates = Path(config.init.model), first_state(config).updates_before
    kept = f"AdamW goes on after {updates:,} updates" if updates else "AdamW begins afresh"
    settings = config.optimizer
    yield (
        f"begins with the weights of {folder}; {kept}; the learning rate warms up over {settings.lr_warmup_tokens:,} "
        f"tokens to {settings.lr:g}, then a cosine to {settings.min_lr:g} over the tokens of this run"
    )
    if (folder / "state.json").is_file() and (folder / "run.yaml").is_file():
        before = load_config(folder / "run.yaml")
        if read_state(folder).data == data and before.seed == config.seed:
            yield f"seed and data are those of {folder}, whose first samples come again; another seed=... draws others"


def _begun(tree: dict[str, Any]) -> RunConfig | None:
    """Return the run in the folder of a tree as its newest checkpoint has it, if there is one."""
    folder = Path(str(tree.get("output_dir", "runs"))) / str(tree.get("name", "run"))
    newest = latest(folder / "checkpoints")
    return load_config(newest / "run.yaml") if newest else None


def _check_same(given: ModelConfig, asked: ModelConfig, folder: Path) -> None:
    """Refuse another architecture than that of the weights, by its first field.

    Raises:
        UserError: a field differs.
    """
    for field in sorted(set(ModelConfig.model_fields) - _FREE):
        name = "inner_size" if field == "d_inner" else field
        if (has := getattr(given, name)) != (wanted := getattr(asked, name)):
            why = "; filters are functions on that grid of positions, which no other length keeps" * (field == "l_max")
            raise UserError(
                f"model.{field} is {wanted} and that of {folder} is {has}{why}; leave the section model out "
                f"(model=null), or train from scratch without init"
            )
