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
from hyena_dist.demo.budget import fit_to_machine
from hyena_dist.errors import UserError
from hyena_dist.system.programs import program
from hyena_dist.tracking import human
from hyena_dist.train.lock import run_lock
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
        device = torch.device("cuda" if gpus else "cpu")
        overrides = [*fit_to_machine(config, ranks, device, overrides), *overrides]
    command = deepspeed.command(["train", str(run), *overrides], ranks=ranks)
    last = load_config(run, overrides).stages(ranks)[-1]
    print(f"[2/2] pretraining on {human(last.tokens_at(last.end_step))} tokens: {' '.join(command)}", flush=True)
    code = deepspeed.run(command, gpus)
    if code == 0:
        print(f"evaluate    {program('hyena-dist')} evaluate {config.run_dir} --data {store} --lengths 512,2048")
        print(f"done in {time.monotonic() - begin:.0f} s; a second run keeps all this, --fresh starts over")
    return code


def _forget_run(folder: Path) -> None:
    """Delete a run's folder, after checking that it is one."""
    if folder.exists():
        if not (folder / "run.yaml").is_file():
            raise UserError(f"{folder} is not a run's folder (it has no run.yaml); delete it yourself if you mean to")
        with run_lock(folder, wait_s=0):  # refuses one that is trained at present
            shutil.rmtree(folder)
