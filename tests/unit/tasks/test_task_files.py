"""Tests of what `finetune` is given: a YAML file, a recipe, or labelled sequences alone."""

from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.tasks.task_files import read_task


def test_yaml_with_overrides(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("name: mine\ntask: {data: {path: a.csv}}\n")
    tree = read_task(str(file), ["model=runs/first", "task.pooling=last"])
    assert tree == {"name": "mine", "task": {"data": {"path": "a.csv"}, "pooling": "last"}, "model": "runs/first"}


def test_recipe_by_name() -> None:
    tree = read_task("nt-h3", ["optimizer.lr=1e-3"])
    assert tree["task"]["data"]["path"] == "data/nucleotide-transformer/source/H3"
    assert float(tree["optimizer"]["lr"]) == 1e-3


@pytest.mark.parametrize(
    ("file", "name"),
    [("my.csv", "my"), ("My genes (2).tsv.gz", "My-genes-2"), ("folder", "folder"), ("__.csv", "task")],
)
def test_sequences_alone(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text("sequence,label\n")
    tree = read_task(str(tmp_path / file), ["model=scratch"])
    assert tree["name"] == name
    assert tree["task"]["data"] == {"path": str(tmp_path / file)}
    assert tree["model"] == "scratch"


def test_neither() -> None:
    with pytest.raises(UserError, match=r"my\.cvs is neither a file nor a recipe"):
        read_task("my.cvs")
    with pytest.raises(UserError, match=r"cannot read the run file no\.yaml"):
        read_task("no.yaml")
