"""`python -m tests.chaos.train train run.yaml`: hyena-dist with a faulty GPU, and a record of what it trains on.

CHAOS_NAN=3,17 makes the gradient NaN at these steps on the last rank. Every rank appends to samples-RANK.jsonl in the
run's folder what each step was computed from.
"""

import json
import math
import os
import sys
import zlib

from hyena_dist import cli
from hyena_dist.train.loop import Loop
from hyena_dist.train.objective import Batch
from hyena_dist.train.pretraining import TokenBatch

NAN = {int(step) for step in os.environ.get("CHAOS_NAN", "").split(",") if step}
accumulate = Loop._accumulate


def observed(self: Loop, batch: Batch[TokenBatch], weight: float) -> object:
    step, rank = batch.step + 1, self.mesh.data_context.rank()
    tokens = b"".join(micro_batch.tokens.numpy().tobytes() for micro_batch in batch.micro_batches)
    with open(self.config.run_dir / f"samples-{rank}.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "crc": zlib.crc32(tokens)}) + "\n")
    poisoned = step in NAN and rank == self.mesh.data_context.size() - 1
    return accumulate(self, batch, math.nan if poisoned else weight)


if __name__ == "__main__":
    Loop._accumulate = observed  # type: ignore[assignment,method-assign]
    sys.exit(cli.main())
