"""Points as they are asked for: every setting of a sweep, with every seed, on every fold."""

import itertools
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator

from hyena_dist.config.file import explain
from hyena_dist.config.section import Section
from hyena_dist.errors import UserError

_OURS = {"name", "output_dir", "seed", "points", "task.data.folds", "task.data.fold"}
"""Keys that tell points apart already."""


class PointsConfig(Section):
    """The section `points` of a task file."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**64)], ...] = Field(
        (), description="a list, or how many from the run's seed on; the run's alone if not given"
    )
    folds: int = Field(0, ge=0, description="parts of a cross-validation, each of which is held out once")
    sweep: dict[str, tuple[Any, ...]] | tuple[dict[str, Any], ...] = Field(
        (), description="values by key, all combinations of which are tried; or a list of settings"
    )
    at_once: int = Field(1, gt=0, description="points that run side by side, each with its share of the cores")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, seeds: Any) -> Any:
        return tuple(range(seeds)) if isinstance(seeds, int) and seeds >= 0 else seeds


class Point(NamedTuple):
    """One run of a task."""

    name: str
    """The name of its folder."""
    setting: Mapping[str, Any]
    """The values of the sweep, by key of the run file; empty without one."""
    seed: int | None
    fold: int | None

    @property
    def group(self) -> str:
        """What points have in common that differ in seed and fold alone: their setting, as text."""
        return ", ".join(f"{key}={_text(value)}" for key, value in self.setting.items())

    def overrides(self, folds: int) -> list[str]:
        """Return how this run differs from the task, as `key=value`; `folds` is the number of folds in all."""
        changes: dict[str, Any] = {"name": self.name, **self.setting}
        if self.seed is not None:
            changes["seed"] = self.seed
        if self.fold is not None:
            changes |= {"task.data.folds": folds, "task.data.fold": self.fold}
        return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def parse_points(tree: Mapping[str, Any], source: str) -> PointsConfig:
    """Validate a section `points`.

    Raises:
        UserError: an unknown key or a value that cannot be; `source` is named.
    """
    try:
        return PointsConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}, points: {explain(error, PointsConfig)}") from error


def parse_sweep(words: list[str]) -> dict[str, list[Any]]:
    """Return the values by key of words such as optimizer.lr=1e-4,3e-4.

    Raises:
        UserError: a word that is none.
    """
    found = {}
    for word in words:
        key, equals, values = word.partition("=")
        try:
            found[key] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            found[key] = []
        if not (key and equals and found[key]):
            raise UserError(f"--sweep {word} is not KEY=VALUE,VALUE; write for example optimizer.lr=1e-4,3e-4")
    return found


def plan_points(config: PointsConfig) -> list[Point]:
    """Return the points in the order in which they run: settings, their seeds, their folds.

    Raises:
        UserError: one fold, a key that seeds and folds set, or the same point twice.
    """
    if config.folds == 1:
        raise UserError("points.folds is 1, which holds all out at once; give 2 or more, or leave it out")
    settings = _settings(config.sweep)
    if taken := sorted({key for setting in settings for key in setting} & _OURS):
        raise UserError(f"a sweep over {taken[0]} cannot be, since points set it themselves; leave it out")
    points = [
        Point(_name(setting, seed, fold), setting, seed, fold)
        for setting, seed, fold in itertools.product(settings, config.seeds or [None], range(config.folds) or [None])
    ]
    names = [point.name for point in points]
    if twice := next((point for point in points if names.count(point.name) > 1), None):
        raise UserError(f"two points would be called {twice.name}; give each value once, or shorter ones")
    return points


def _settings(sweep: Any) -> list[dict[str, Any]]:
    if isinstance(sweep, dict):
        return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    return list(sweep) or [{}]


def _name(setting: Mapping[str, Any], seed: int | None, fold: int | None) -> str:
    parts = [f"{key.rpartition('.')[2]}-{_text(value).rpartition('/')[2]}" for key, value in setting.items()]
    parts += [f"seed-{seed}"] if seed is not None else []
    parts += [f"fold-{fold}"] if fold is not None else []
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)) or "point"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
