"""From a task file to a run that is complete: the model's architecture, and the steps that its epochs come to."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyena_dist.config.file import parse_config
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.task import SCRATCH
from hyena_dist.errors import UserError
from hyena_dist.models.published import has_tied_head
from hyena_dist.models.published_config import model_config, read_config
from hyena_dist.tasks.in_context.contexts import check_length, longest_context
from hyena_dist.tasks.labelled_data import labelled_data
from hyena_dist.tasks.task_files import read_task
from hyena_dist.train.checkpoint.format import model_folder

Tree = dict[str, Any]

EPOCHS = 10.0
BATCH = 32
LEAST_EVALUATIONS = 5
"""Evaluations that a run has at least where its file says no eval_interval: less than an epoch has a curve, too."""
WARMUP = 0.1
"""The share of training in which the learning rate rises, as in the paper's fine-tuning."""


def load_task(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read what `read_task` does, and complete it."""
    return complete(read_task(str(source), overrides), str(source))


def complete(tree: Tree, source: str) -> RunConfig:
    """Complete a task file; a run.yaml that is complete already stays as it is.

    A task file is a run file with a section `task`, in which

    - `model` may be a path, or `scratch`: it goes to `task.model`, and the section `model` has that model's
      architecture;
    - `architecture` is that of a model from scratch, as fields or as the path of a model that has it, or fields that a
      trained model is to have otherwise, such as dropout;
    - `train.curriculum` may be left out: `task.epochs` of the longest sequence make it, evaluated after each epoch,
      and five times at least.

    Args:
        tree: the content of the file.
        source: named in errors.

    Raises:
        UserError: What `parse_config` refuses, a model or data that cannot be read, or sequences that are too long.
    """
    if not isinstance(tree.get("task"), dict):
        raise UserError(f"{source} has no section task, which names the labelled data; `hyena-dist train` pretrains")
    tree = _with_model(tree, source)
    epochs = tree["task"].get("epochs")
    train = dict(tree.get("train") or {})
    if "curriculum" in train:
        if epochs is not None:
            raise UserError(f"{source} gives task.epochs and train.curriculum, which both say how long; leave one out")
        return parse_config(tree if tree["model"] else tree | {"model": {"l_max": _positions(train)}}, source)
    if (tree["task"].get("data") or {}).get("format") == "species":
        raise UserError(f"{source} has no train.curriculum, and random windows of species have no epochs; add one")
    if not {"global_batch_size", "global_batch_tokens"} & train.keys():
        train["global_batch_size"] = BATCH
    # All else is checked before the data is read, which may take long.
    unit = _unit(tree.get("parallel") or {})
    sketch = parse_config(tree | {"train": train | {"curriculum": [{"seq_length": unit, "train_iters": 1}]}}, source)
    assert sketch.task is not None
    data = labelled_data(sketch.task)
    in_context = sketch.task.in_context
    longest = max(int(examples.lengths.max()) for examples in data.splits.values())
    if in_context is not None:
        longest = longest_context(data, in_context)
    if not tree["model"]:
        tree["model"] = {"l_max": max(ModelConfig().l_max, -(-longest // unit) * unit)}
    l_max = tree["model"].get("l_max", ModelConfig().l_max)
    labelled_data(sketch.task, l_max // unit * unit)
    if in_context is not None:
        check_length(data, in_context, l_max // unit * unit, "the model's l_max")
    size = len(data.splits["train"])
    length = min(-(-longest // unit) * unit, l_max // unit * unit)
    batch = train.get("global_batch_size") or max(1, train["global_batch_tokens"] // length)
    steps = max(1, round((sketch.task.epochs or EPOCHS) * size / batch))
    train["curriculum"] = [{"seq_length": length, "train_iters": steps}]
    between = max(1, min(round(size / batch), steps // LEAST_EVALUATIONS))
    train = {"eval_interval": between, "save_interval": between, "log_interval": max(1, min(10, between // 4))} | train
    warmup = {"lr_warmup_tokens": int(WARMUP * steps * batch * length)}
    return parse_config(
        tree
        | {
            "train": train,
            "optimizer": warmup | (tree.get("optimizer") or {}),
            "task": {key: value for key, value in tree["task"].items() if key != "epochs"},
        },
        source,
    )


def _with_model(tree: Tree, source: str) -> Tree:
    """Return the tree with the architecture in `model`, empty if nothing says it, and the weights in `task.model`."""
    tree = dict(tree)
    task, model, given = dict(tree["task"]), tree.pop("model", None), tree.pop("architecture", None)
    if isinstance(model, str):
        task["model"], model = model, None
    if model is None:
        start = task.setdefault("model", SCRATCH)
        if start != SCRATCH and isinstance(given, str):
            raise UserError(
                f"{source}: architecture {given} is for model=scratch, and model {start} has its own; leave it out"
            )
        if start == SCRATCH and not isinstance(given, str):
            model = dict(given or {})
        else:
            model = architecture_of(Path(given if start == SCRATCH else start), task.get("in_context") is not None) | (
                given if isinstance(given, dict) else {}
            )
    elif given is not None:
        raise UserError(f"{source} has a section model, which is the architecture; leave `architecture` out")
    return tree | {"task": task, "model": model}


def architecture_of(model: Path, with_head: bool = False) -> Tree:
    """Return the fields of a trained model's architecture, with a head of its own if that is wanted and it has one.

    Raises:
        UserError: there is no model.
    """
    if not model.exists():
        raise UserError(f"there is no model {model}; name a run, a checkpoint or a published folder, or model=scratch")
    folder = model_folder(model)
    fields = model_config(read_config(folder.parent if folder.is_file() else folder), None)
    if with_head:
        return fields.model_copy(update={"tie_embeddings": has_tied_head(folder)}).model_dump(mode="json")
    # The head of the language model, which may be its own, has no part in other tasks.
    return fields.model_copy(update={"tie_embeddings": True}).model_dump(mode="json")


def _positions(train: Tree) -> int:
    """Return the positions that a model from scratch needs for a curriculum, those of the usual model at least."""
    stages = [stage for stage in train["curriculum"] or () if isinstance(stage, dict)]
    return max([ModelConfig().l_max, *(n for stage in stages if isinstance(n := stage.get("seq_length"), int))])


def _unit(parallel: Tree) -> int:
    """Return what lengths must be a multiple of: what ranks cut sequences into, 8 parts where that is planned later."""
    sizes = {key: parallel.get(key, 1) for key in ("context_parallel_size", "tensor_model_parallel_size")}
    if "auto" in sizes.values():
        return 8
    cuts = list(sizes.values()) if parallel.get("sequence_parallel") else [sizes["context_parallel_size"]]
    return math.prod(cut for cut in cuts if isinstance(cut, int))
