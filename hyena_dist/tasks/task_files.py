"""The reader of what `hyena-dist finetune` is given: a task file, the name of a recipe, or labelled sequences alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyena_dist.config.file import load_tree, override
from hyena_dist.tasks.recipe_table import OWN_DATA, find_recipe


def read_task(source: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of a task file, with `key=value` overrides; a recipe and plain sequences make one.

    The run has the file's name if nothing says another.

    Args:
        source: a YAML file, the name of a recipe, or a file or folder of labelled sequences.
        overrides: keys of the task file, such as optimizer.lr=1e-4.

    Raises:
        UserError: A file that is no YAML, an override that is none, or neither a file nor a recipe of that name.
    """
    if source.endswith((".yaml", ".yml")):
        return {"name": Path(source).stem} | load_tree(source, overrides)
    if Path(source).exists():
        tree = find_recipe(OWN_DATA).tree
        tree["task"]["data"] = {"path": source}
        tree["name"] = _name(Path(source))
    else:
        tree = find_recipe(source).tree
    override(tree, overrides)
    return tree


def _name(path: Path) -> str:
    """Return a name for a run on a file: my.csv.gz makes my."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-_") or "task"
