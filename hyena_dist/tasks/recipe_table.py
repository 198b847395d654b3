"""The recipes: tasks of HyenaDNA's paper, each a task file with the paper's settings and its published figure.

A family of tasks is one YAML file in recipes/: what its tasks have in common, and a table of what differs.
"""

import difflib
from importlib import resources
from typing import Any, NamedTuple

import yaml

from hyena_dist.errors import UserError

PAPER = "HyenaDNA, arXiv 2306.15794"
OWN_DATA = "own-data"
"""Name of the recipe for sequences that no paper is about."""


class Recipe(NamedTuple):
    """A task with its settings."""

    name: str
    family: str
    """The title of the family."""
    about: str
    """What the classes are, and how long the sequences, for people."""
    metric: str
    """The metric of `paper`, one of tasks/metrics.py."""
    paper: float | None
    """The published figure in percent; None if there is none."""
    checked: bool
    """Whether the figure was checked against the paper, or a text that quotes it, when this was written."""
    data: str
    """Where the data comes from: mostly a command that brings it."""
    tree: dict[str, Any]
    """The content of the task file, which may be changed: every call of `recipes` makes another."""


def recipes() -> dict[str, Recipe]:
    """Return all recipes by name, in the order of their files."""
    folder = resources.files("hyena_dist.tasks") / "recipes"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    found = [recipe for file in files for recipe in _family(yaml.safe_load(file.read_text(encoding="utf-8")))]
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        UserError: There is none; it names the nearest.
    """
    known = recipes()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise UserError(
        f"{name} is neither a file nor a recipe; the nearest recipe is {near[0]}, and `hyena-dist finetune --list` "
        f"shows all"
    )


def describe_recipes() -> list[str]:
    """Return lines for people: every recipe by family, with its metric, the paper's figure and where its data is."""
    lines: list[str] = []
    known = recipes()
    width = max(map(len, known))
    for family in dict.fromkeys(recipe.family for recipe in known.values()):
        members = [recipe for recipe in known.values() if recipe.family == family]
        lines += ["", f"{family}: {members[0].data}"]
        for each in members:
            figure = "    -" if each.paper is None else f"{each.paper:5.1f}{' ' if each.checked else '*'}"
            lines.append(f"  {each.name:{width}}  {each.metric:9}{figure:6}  {each.about}")
    return [
        f"{'  recipe':{width + 2}}  {'metric':9}{'paper':6}  what it tells apart",
        *lines,
        "",
        "* nobody could check this figure against the paper when the recipe was written",
        "start one with `hyena-dist finetune RECIPE model=...`; with --dry-run it is shown as a file to copy and edit",
    ]


def _family(document: dict[str, Any]) -> list[Recipe]:
    """Return the recipes of a file: `run`, with the keys of each task's `set` in place of its own."""
    found = []
    for name, task in document["tasks"].items():
        tree = _copy(document["run"]) | {"name": name}
        for key, value in task.get("set", {}).items():
            _put(tree, key.split("."), value)
        metric = task.get("metric", document["metric"])
        if "paper" in task and document.get("comparable", True):
            figure = {"metric": metric, "value": round(task["paper"] / 100, 4), "source": PAPER}
            tree["task"] = tree["task"] | {"published": figure}
        data = task.get("data", document["data"])
        checked = task.get("checked", False)
        found.append(Recipe(name, document["title"], task["about"], metric, task.get("paper"), checked, data, tree))
    return found


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
