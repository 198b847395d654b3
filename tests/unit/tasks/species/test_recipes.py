"""The recipes of species classification are complete runs, and a node of GPUs can be planned for each."""

import pytest

from hyena_dist.plan.fit import fit
from hyena_dist.tasks.objectives import objective_of
from hyena_dist.tasks.recipe_table import recipes
from hyena_dist.tasks.resolve import complete
from hyena_dist.tasks.species.objective import SpeciesClassification

SPECIES = {name: recipe for name, recipe in recipes().items() if recipe.family == "species classification"}


@pytest.mark.parametrize("name", SPECIES)
def test_is_planned(name: str) -> None:
    config = complete(SPECIES[name].tree, name)
    assert objective_of(config) is SpeciesClassification
    lengths = [stage.seq_length for stage in config.train.curriculum]
    assert lengths == sorted(set(lengths)), "each stage is longer than the one before"
    assert config.evaluation_lengths[-1] == lengths[-1] <= config.model.l_max
    stages = fit(config, 8).stages(8)
    assert [stage.seq_length for stage in stages] == lengths
    assert all(stage.seq_length % stage.parallel.context_parallel_size == 0 for stage in stages)


def test_those_of_the_paper() -> None:
    assert list(SPECIES) == ["species-1k", "species-32k", "species-250k", "species-450k", "species-1m"]
    assert [recipe.paper for recipe in SPECIES.values()] == [61.1, 93.4, 97.9, 99.4, 99.5]
