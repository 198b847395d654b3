"""Every recipe resolves, is planned for 1, 2, 4 and 16 nodes of 8 GPUs, and keeps its global batch."""

from pathlib import Path

import pytest

from hyena_dist.config.file import load_config
from hyena_dist.plan.fit import fit
from hyena_dist.plan.memory import GIB, step_memory

RECIPES = sorted((Path(__file__).parents[3] / "jobs/recipes").glob("*.yaml"))
PARAMETERS = {
    "tiny-1k": 436_096,
    "tiny-1k-d256": 1_641_088,
    "tiny-16k-d128": 436_096,
    "small-32k": 3_277_568,
    "medium-160k": 6_550_528,
    "medium-450k": 6_550_528,
    "large-1m": 6_550_528,
}
"""Parameters of the published models, exactly."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("nodes", [1, 2, 4, 16])
def test_on_nodes_of_eight(recipe: Path, nodes: int) -> None:
    config = load_config(recipe)
    assert config.name == recipe.stem
    if recipe.stem.startswith(("demo", "chr20")):  # batches for a CPU
        config.stages(4 if recipe.stem == "demo-tp2cp2" else 2)
        return
    planned = fit(config, 8 * nodes)
    for stage in planned.stages(8 * nodes):
        assert stage.global_batch_size == config.train.global_batch_size
        product = stage.micro_batch_size * stage.gradient_accumulation_steps * stage.data_parallel_size
        assert product == stage.global_batch_size
        assert step_memory(planned, stage).total <= 0.9 * stage.parallel.device_memory_gib * GIB
    assert config.model.num_parameters == PARAMETERS.get(recipe.stem, config.model.num_parameters)


def test_all_published_models_are_there() -> None:
    assert PARAMETERS.keys() <= {path.stem for path in RECIPES}
