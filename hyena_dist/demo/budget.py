"""The number of tokens that the demo trains on: as many of its recipe's as fit into a few minutes on this machine."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from hyena_dist.config.run import RunConfig
from hyena_dist.demo.speed import Speed, measure_speed
from hyena_dist.ops.precision import fast_precision
from hyena_dist.tracking import human

TARGET_S = 270.0
"""What the demo may take by the estimate; the README promises under 6 minutes."""
LEAST_SHARE = 0.2
"""With this share of the recipe's tokens, held-out perplexity is still well below that of every Markov chain."""

# From measured to real seconds, by whole demos on 2 cores.
_STARTS = 5.0  # measuring, the launcher, its process on the node and the ranks load torch in turn; then MLflow, plots
_STEP_OVERHEAD = 1.4  # exchange of gradients, ZeRO, the loader, and memory that both ranks wait for
_FORWARD_SHARE = 0.3  # of a training step


class Budget(NamedTuple):
    """The part of a recipe that is trained."""

    share: float
    """The share of the recipe's tokens, in twentieths."""
    expected_s: float
    """How long the demo takes from its launch to its report."""


def fit_to_machine(config: RunConfig, ranks: int, device: torch.device, given: Sequence[str]) -> list[str]:
    """Return overrides that fit a run to this machine, and print the choice and its reason in a line.

    They are the precision, if none is given, and on a CPU the budget, if nothing about training is given.

    Args:
        config: The run with the given overrides.
        ranks: Number of processes that are going to train.
        device: What they train on.
        given: `key=value` overrides of the user.
    """
    keys = [override.partition("=")[0] for override in given]
    chosen = []
    if "precision" not in keys:
        precision = fast_precision(device)
        chosen.append(f"precision={precision}")
        config = config.model_copy(update={"precision": precision})
    if device.type != "cpu" or any(key.startswith("train.") for key in keys):
        return chosen
    speed = measure_speed(config, ranks)
    budget = choose_budget(config, speed, ranks)
    print(f"      {_reason(config, ranks, speed, budget)}", flush=True)
    return chosen + overrides_for(config, budget.share)


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
        scored += (longest.end_step - 1) // config.train.eval_interval * config.evaluation.interval_max_tokens
    evaluation = scored / longest.tokens_per_step * step_s[longest.seq_length] * _FORWARD_SHARE
    return _STARTS * speed.start_s + share * training * _STEP_OVERHEAD + evaluation


def overrides_for(config: RunConfig, share: float) -> list[str]:
    """Return the overrides that cut a run to a share of its tokens; it is evaluated as often."""
    stages = [
        {"seq_length": stage.seq_length, "tokens": round(share * (stage.tokens or 0))}
        for stage in config.train.curriculum
    ]
    interval = math.ceil(share * config.train.eval_interval)
    return [f"train.curriculum={json.dumps(stages)}", f"train.eval_interval={interval}"]


def _reason(config: RunConfig, ranks: int, speed: Speed, budget: Budget) -> str:
    """Return the line that says what was measured and what follows."""
    stages = config.stages(ranks)
    tokens = stages[-1].tokens_at(stages[-1].end_step)
    fastest, slowest = min(speed.step_s), max(speed.step_s)
    rates = f"{human(stages[0].tokens_per_step / slowest)} to {human(stages[0].tokens_per_step / fastest)}"
    measured = f"measured {rates} tokens/s in {config.precision} on {ranks} processes: "
    minutes = f"about {budget.expected_s / 60:.1f} minutes"
    if budget.share == 1:
        return f"{measured}all {human(tokens)} tokens fit, {minutes}"
    part = f"{human(budget.share * tokens)} of {human(tokens)} tokens"
    if budget.expected_s <= TARGET_S:
        return f"{measured}{part} fit, {minutes}"
    return f"{measured}{part}, the least that beats every Markov chain, will take {minutes}"
