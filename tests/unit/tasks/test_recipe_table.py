"""The recipes: all tasks of the paper are there, each is a run, and `data download` brings what it reads."""

from collections import Counter
from pathlib import PurePosixPath

import pytest

from data_prep.preset import load_preset
from hyena_dist.config.file import parse_config
from hyena_dist.errors import UserError
from hyena_dist.tasks.metrics import HEADLINE
from hyena_dist.tasks.recipe_table import OWN_DATA, describe_recipes, find_recipe, recipes

ALL = recipes()
EPOCHS = [recipe for recipe in ALL.values() if "curriculum" not in recipe.tree["train"]]
PAPER = {name: recipe for name, recipe in ALL.items() if recipe.paper is not None}


def test_all_tasks_of_the_paper_are_there() -> None:
    families = Counter(recipe.family for recipe in PAPER.values())
    assert families["GenomicBenchmarks"] == 8
    assert families["Nucleotide Transformer"] == 18
    assert families["chromatin profiles"] == 2
    figures = {name: recipe.paper for name, recipe in PAPER.items()}
    assert (figures["gb-human-vs-worm"], figures["nt-h4ac"], figures["nt-splice-all"]) == (96.6, 63.7, 97.9)


@pytest.mark.parametrize("recipe", EPOCHS, ids=lambda recipe: recipe.name)
def test_is_a_run(recipe) -> None:
    tree = recipe.tree
    tree["train"] |= {"curriculum": [{"seq_length": 1024, "tokens": 1024}]}
    tree["task"].setdefault("data", {}).setdefault("path", "mine.csv")
    config = parse_config(tree, recipe.name)
    assert config.name == recipe.name
    assert config.task is not None
    assert config.task.best_by in (None, recipe.metric)
    assert recipe.metric in {"accuracy", "f1", *HEADLINE.values()}


@pytest.mark.parametrize("preset", ["genomic-benchmarks", "nucleotide-transformer"])
def test_the_data_of_recipes_is_what_their_preset_brings(preset: str) -> None:
    paths = [recipe.tree["task"]["data"].get("path", "") for recipe in PAPER.values()]
    named = {PurePosixPath(path).name for path in paths if path.startswith(f"data/{preset}/source/")}
    brought = {file.name for file in load_preset(preset).files}
    assert brought == {f"{name}/{split}.parquet" for name in named for split in ("train", "test")}
    assert all(f"download {preset}" in recipe.data for recipe in PAPER.values() if preset in str(recipe.tree))


def test_changes_of_a_tree_stay_with_the_caller() -> None:
    find_recipe("gb-human-vs-worm").tree["optimizer"]["lr"] = 1.0
    assert {recipe.tree["optimizer"]["lr"] for recipe in recipes().values() if recipe.paper} != {1.0}
    assert find_recipe("gb-human-vs-worm").tree["optimizer"]["lr"] == 6e-4


def test_list_for_people() -> None:
    lines = describe_recipes()
    assert [line for line in lines if len(line) > 120] == []
    row = next(line for line in lines if line.strip().startswith("gb-human-enhancers-cohn"))
    assert row.split()[1:3] == ["accuracy", "74.2"]
    assert next(line for line in lines if line.strip().startswith("nt-h3 ")).split()[2] == "81.7*"
    assert all(any(f" {name} " in line for line in lines) for name in ALL)


def test_the_nearest_is_named() -> None:
    with pytest.raises(UserError, match="the nearest recipe is gb-human-ocr-ensembl"):
        find_recipe("human-ocr-ensembl")
    assert find_recipe(OWN_DATA).paper is None
