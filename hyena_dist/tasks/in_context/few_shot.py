"""Pure few-shot evaluation: the model as it is, asked with demonstrations in the context, and nothing tuned."""

import json
from contextlib import ExitStack
from typing import Any

from hyena_dist.config.file import dump_record
from hyena_dist.config.run import RunConfig
from hyena_dist.parallel.mesh import build_mesh
from hyena_dist.parallel.world import World, join_world, shutdown
from hyena_dist.plan.fit import fit
from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.finished import predictions_file
from hyena_dist.tasks.in_context.objective import InContext
from hyena_dist.tracking.work_progress import WorkProgress
from hyena_dist.train.lock import run_lock


def evaluate_few_shot(config: RunConfig, world: World) -> dict[str, Any]:
    """Predict the held-out splits and write summary.json beside the predictions; all ranks call this.

    Args:
        config: a complete run with `task.in_context`, of which nothing is trained.
        world: all ranks.

    Returns:
        The content of summary.json: metrics of each split, model, predictions by split.

    Raises:
        UserError: what InContext refuses, or a folder that other processes have or that cannot be written to.
    """
    config = fit(config, world.size)
    objective = InContext(config)
    mesh = build_mesh(world, config.segments(world.size)[-1][0].parallel)
    folder = config.run_dir
    with ExitStack() as stack:
        world.on_main(lambda: stack.enter_context(run_lock(folder)))
        world.on_main(lambda: write_atomically(folder / "run.yaml", dump_record(config)))
        model = objective.build_model(mesh).to(mesh.device).eval()
        total = sum(objective.scored.values())
        at_once = config.evaluation.micro_batch_tokens // objective.length * mesh.data.size()
        progress = stack.enter_context(WorkProgress("few-shot", total, unit="queries", enabled=world.is_main))
        found: dict[str, Any] = {}
        for split in objective.scored:
            found[split], made = objective.measured_on(split, model, lambda: progress.advance(max(1, at_once)))
            to = predictions_file(folder, split)
            world.on_main(lambda of=made, to=to: of.save(to))  # type: ignore[misc]
        files = {split: str(predictions_file(folder, split)) for split in found}
        summary = {**found, "model": objective.task.model, "predictions": files}
        world.on_main(lambda: write_atomically(folder / "summary.json", json.dumps(summary, indent=2) + "\n"))
    return summary


def evaluate_launched(config: RunConfig) -> None:
    """Join the other processes of the launcher, evaluate and print the result."""
    world = join_world()
    try:
        found = evaluate_few_shot(config, world)
    finally:
        shutdown()
    if world.is_main:
        for split in found["predictions"]:
            print(f"{split}: accuracy {found[split]['accuracy']:.4f}, loss {found[split]['loss']:.4f}", flush=True)
