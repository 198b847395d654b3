"""A resolved run as text, for --dry-run: works on login nodes, without torch."""

import json

from hyena_dist.config.deepspeed import compose, read_preset
from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.plan.memory import step_memory


def show(config: RunConfig, world_size: int) -> None:
    """Print a resolved run as YAML and what follows from it as comments.

    Raises:
        UserError: a world size or batch sizes that do not divide.
    """
    segments = config.segments(world_size)
    print(dump_config(config), end="")
    print(f"# {config.model.num_parameters:,} parameters, {world_size} ranks, run folder {config.run_dir}")
    for segment in segments:
        parallel, first = segment[0].parallel, segment[0]
        deepspeed = compose(
            read_preset(parallel.zero),
            micro_batch_size=first.micro_batch_size,
            data_context_size=first.data_parallel_size * parallel.context_parallel_size,
            clip_grad=config.optimizer.clip_grad,
        )
        print(f"# {config.layout_of(segment).describe(world_size)}")
        for stage in segment:
            print(f"# {stage.describe()}")
            print(f"#   {step_memory(config, stage).describe()}")
        print(f"# DeepSpeed: {json.dumps(deepspeed)}")
