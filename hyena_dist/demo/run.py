"""The demo from FASTA to held-out perplexity."""

import shutil
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch

from data_prep import demo_corpus
from data_prep.build import BuildOptions, build_store
from data_prep.splits import BlockSplits
from hyena_dist.config.file import load_config
from hyena_dist.config.run import RunConfig
from hyena_dist.demo.budget import TARGET_S, choose_budget, overrides_for
from hyena_dist.demo.speed import measure_speed
from hyena_dist.errors import UserError
from hyena_dist.ops.precision import fast_precision
from hyena_dist.system.programs import program
from hyena_dist.tracking import human
from jobs.launchers import deepspeed


def run_demo(output_dir: Path, fresh: bool, overrides: Sequence[str]) -> int:
    """Build the store, pretrain with the deepspeed launcher on two ranks, evaluate, and say where everything is.

    A run that an earlier demo began is continued, or kept if it has ended, as its run.yaml says. For a new one this
    machine is measured, and precision and number of tokens are chosen, unless an override does.

    Args:
        output_dir: Where things go: the run to output_dir/demo, the store to output_dir/demo-data.
        fresh: Whether to forget an earlier demo run; its data is kept.
        overrides: `key=value` overrides of the recipe, as for `hyena-dist train`.

    Returns:
        The exit code of the training processes.
    """
    begin = time.monotonic()
    store = output_dir / "demo-data"
    run = Path(str(resources.files("jobs") / "recipes" / "demo.yaml"))
    overrides = [f"output_dir={output_dir}", f"data.path={store}", *overrides]
    config = load_config(run, overrides)
    if fresh:
        _forget_run(config.run_dir)

    print("[1/2] FASTA -> packed Zarr: 5 Mb of human chr20, the last 10 % held out", flush=True)
    build_store(
        [demo_corpus()],
        store,
        BuildOptions(BlockSplits((0.9, 0.1, 0.0))),
        command=f"hyena-dist data build {demo_corpus()} --out {store} --split-fractions 0.9,0.1",
    )
    gpus = torch.cuda.device_count()
    ranks = min(2, gpus or 2)
    earlier = config.run_dir / "run.yaml"
    if earlier.is_file():
        run = earlier
    else:
        overrides = [*_fitting(config, ranks, gpus, overrides), *overrides]
    command = deepspeed.command(["train", str(run), *overrides], ranks=ranks)
    last = load_config(run, overrides).stages(ranks)[-1]
    print(f"[2/2] pretraining on {human(last.tokens_at(last.end_step))} tokens: {' '.join(command)}", flush=True)
    code = deepspeed.run(command, gpus)
    if code == 0:
        print(f"evaluate    {program('hyena-dist')} evaluate {config.run_dir} --data {store} --lengths 512,2048")
        print(f"done in {time.monotonic() - begin:.0f} s; a second run keeps all this, --fresh starts over")
    return code


def _fitting(config: RunConfig, ranks: int, gpus: int, overrides: Sequence[str]) -> list[str]:
    """Return what this machine does better otherwise than the recipe says, as overrides, and print why."""
    given = {override.partition("=")[0] for override in overrides}
    chosen = []
    if "precision" not in given:
        precision = fast_precision(torch.device("cuda" if gpus else "cpu"))
        chosen = [f"precision={precision}"]
        config = config.model_copy(update={"precision": precision})
    if gpus or any(key.startswith("train.") for key in given):
        return chosen
    speed = measure_speed(config, ranks)
    budget = choose_budget(config, speed, ranks)
    stages = config.stages(ranks)
    tokens = stages[-1].tokens_at(stages[-1].end_step)
    rate = stages[-1].tokens_per_step / speed.step_s[-1]
    minutes = f"{budget.expected_s / 60:.1f} minutes"
    if budget.expected_s > TARGET_S:
        choice = f"slow: even the least that beats every Markov chain, {human(budget.share * tokens)}, takes"
    elif budget.share < 1:
        choice = f"{human(budget.share * tokens)} of the recipe's {human(tokens)} tokens fit, which take"
    else:
        choice = f"all {human(tokens)} tokens fit, which take"
    print(f"      measured {human(rate)} tokens/s in {config.precision}: {choice} about {minutes}", flush=True)
    return [*chosen, *overrides_for(config, budget.share)]


def _forget_run(folder: Path) -> None:
    """Delete a run's folder, after checking that it is one."""
    if folder.exists():
        if not (folder / "run.yaml").is_file():
            raise UserError(f"{folder} is not a run's folder (it has no run.yaml); delete it yourself if you mean to")
        shutil.rmtree(folder)
