"""The sets that are compared on, and how models are trained on them: sets.yaml, read for a case."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hyena_dist.bench.finetune.windows import Windows, write_windows
from hyena_dist.config.file import override
from hyena_dist.errors import UserError
from hyena_dist.tasks.points.plan import Point
from hyena_dist.tasks.predictions import Predictions

_QUICK = ("gue_mouse_0", "human_ocr_ensembl")
_QUICK_EPOCHS = 0.3


class FinetuneCase(NamedTuple):
    """The models that are compared, and the sets that they are compared on."""

    model: Path
    """A run, checkpoint or folder: the pretrained model, whose architecture the one from scratch has too."""
    data: Path
    """The folder that {data} stands for."""
    runs: Path
    """The folder that the runs go to, each set's in its own; what is finished there is not done again."""
    sets: tuple[str, ...]
    """Names of sets; empty for all."""
    seeds: int
    at_once: int
    """How many runs there are side by side."""
    quick: bool
    """Whether two small sets are trained for a few steps, to see that all works."""

    @property
    def pretrained(self) -> dict[str, Any]:
        """The keys of a task file that start from the model."""
        return {"model": str(self.model)}

    @property
    def scratch(self) -> dict[str, Any]:
        """The keys of a task file that start from scratch."""
        return {"model": "scratch", "architecture": str(self.model)}


class Set(NamedTuple):
    """A set of labelled sequences, and how models are trained on it."""

    name: str
    metric: str
    floors: tuple[str, ...]
    """Simple methods that are fitted beside the models."""
    tree: dict[str, Any]
    """The task file, without a model."""
    search: dict[str, list[Any]]
    """Values by key that a search tries, one key at a time."""
    windows: Windows | None
    """The windows that the file of data has to be made from first; None if there is one."""


def load_sets(case: FinetuneCase) -> list[Set]:
    """Return the sets that a case asks for, once their files are there.

    Raises:
        UserError: there is none of a name, or no folder of data.
    """
    text = (resources.files("hyena_dist.bench.finetune") / "sets.yaml").read_text(encoding="utf-8")
    known = yaml.safe_load(text)["sets"]
    names = case.sets or (_QUICK if case.quick else tuple(known))
    if unknown := next((name for name in names if name not in known), None):
        raise UserError(f"there is no set {unknown}; choose from {', '.join(known)}")
    if not case.data.is_dir():
        raise UserError(f"there is no folder {case.data}; name that of the labelled sets with --data")
    sets = [_load(name, yaml.safe_load(text), case) for name in names]
    for each in sets:
        if each.windows is not None:
            write_windows(each.windows, Path(each.tree["task"]["data"]["path"]))
    return sets


def load_predictions(folder: Path, point: Point, split: str = "test") -> Predictions:
    """Return the predictions that a finished point has left in the folder of all points."""
    return Predictions.load(folder / point.name / f"predictions-{split}.parquet")


def _load(name: str, document: dict[str, Any], case: FinetuneCase) -> Set:
    entry = document["sets"][name]
    tree = document["run"] | {"name": name}
    values = {key: _placed(value, case) for key, value in entry.get("set", {}).items()}
    if entry.get("both_strands"):
        values |= {"task.reverse_complement": True, "task.average_strands": True}
    windows = None
    if "windows" in entry:
        of = entry["windows"]
        windows = Windows(Path(_placed(of["folder"], case)), of["length"], of["most"])
        values["task.data.path"] = str(case.runs / f"{name}.csv.gz")
    if case.quick:
        values["task.epochs"] = _QUICK_EPOCHS
    override(tree, [f"{key}={json.dumps(value)}" for key, value in values.items()])
    floors = ("majority", *entry.get("floors", ["kmer"]))
    return Set(name, entry["metric"], floors, tree, document["search"], windows)


def _placed(value: Any, case: FinetuneCase) -> Any:
    return value.replace("{data}", str(case.data)) if isinstance(value, str) else value
