"""How many tokens the demo trains on: as many of its recipe's as fit into a few minutes on this machine."""

import json
from typing import NamedTuple

from hyena_dist.config.run import RunConfig
from hyena_dist.demo.speed import Speed

TARGET_S = 270.0
"""What the demo may take by the estimate; the README promises under 6 minutes."""
LEAST_SHARE = 0.1
"""With this share of the recipe's tokens, held-out perplexity is still well below that of every Markov chain."""

# From measured to real seconds, by whole demos on 2 cores.
_STARTS = 5.0  # the launcher, its process on the node and the ranks load torch in turn; then come engine and MLflow
_STEP_OVERHEAD = 1.15  # exchange of gradients, ZeRO, the loader, saving
_FORWARD_SHARE = 1 / 3  # of a training step


class Budget(NamedTuple):
    """The part of a recipe that is trained."""

    share: float
    """The share of the recipe's tokens, in twentieths."""
    expected_s: float
    """How long the demo takes from its launch to its report."""


def choose_budget(config: RunConfig, speed: Speed, ranks: int) -> Budget:
    """Return the largest budget whose expected time is within `TARGET_S`, but no less than `LEAST_SHARE`."""
    shares = [n / 20 for n in range(20, 0, -1) if n / 20 >= LEAST_SHARE]
    budgets = [Budget(share, expected_s(config, speed, ranks, share)) for share in shares]
    return next((budget for budget in budgets if budget.expected_s <= TARGET_S), budgets[-1])


def expected_s(config: RunConfig, speed: Speed, ranks: int, share: float) -> float:
    """Return the seconds that a share of a run is expected to take: start, steps and evaluations."""
    stages = config.stages(ranks)
    step_s = dict(zip((stage.seq_length for stage in stages), speed.step_s, strict=True))
    training = sum((stage.end_step - stage.first_step) * step_s[stage.seq_length] for stage in stages)
    longest = stages[-1]
    scored = len(config.evaluation_lengths) * config.evaluation.max_tokens
    if config.train.eval_interval:
        scored += longest.end_step // config.train.eval_interval * config.evaluation.interval_max_tokens
    evaluation = scored / longest.tokens_per_step * step_s[longest.seq_length] * _FORWARD_SHARE
    return _STARTS * speed.start_s + share * training * _STEP_OVERHEAD + evaluation


def overrides_for(config: RunConfig, share: float) -> list[str]:
    """Return the overrides that cut a run to a share of its tokens; it is evaluated as often."""
    stages = [
        {"seq_length": stage.seq_length, "tokens": round(share * (stage.tokens or 0))}
        for stage in config.train.curriculum
    ]
    interval = round(share * config.train.eval_interval)
    return [f"train.curriculum={json.dumps(stages)}", f"train.eval_interval={interval}"]
