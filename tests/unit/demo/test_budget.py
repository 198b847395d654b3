"""The demo's budget falls with the machine's speed, keeps to its target, and never below what beats Markov chains."""

import re
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.file import load_config
from hyena_dist.demo.budget import (
    LEAST_SHARE,
    TARGET_S,
    _reason,
    choose_budget,
    expected_s,
    fit_to_machine,
    overrides_for,
)
from hyena_dist.demo.speed import Speed

RECIPE = Path(str(resources.files("jobs") / "recipes" / "demo.yaml"))
CPU = torch.device("cpu")
CONFIG = load_config(RECIPE)


def speed(step_s: float, start_s: float = 4.0) -> Speed:
    return Speed((step_s,) * 3, start_s)


@given(st.floats(1e-3, 10.0), st.floats(0.5, 60.0))
def test_it_keeps_to_the_target_or_is_the_least(step_s: float, start_s: float) -> None:
    budget = choose_budget(CONFIG, speed(step_s, start_s), 2)
    assert LEAST_SHARE <= budget.share <= 1
    assert budget.expected_s == expected_s(CONFIG, speed(step_s, start_s), 2, budget.share)
    if budget.share > LEAST_SHARE:
        assert budget.expected_s <= TARGET_S
    if budget.share < 1:
        assert expected_s(CONFIG, speed(step_s, start_s), 2, budget.share + 0.05) > TARGET_S


def test_a_slower_machine_trains_on_less() -> None:
    shares = [choose_budget(CONFIG, speed(step_s), 2).share for step_s in (0.01, 0.1, 0.2, 0.4, 10.0)]
    assert shares[0] == 1
    assert shares[-1] == LEAST_SHARE
    assert all(slower <= faster for faster, slower in pairwise(shares))
    assert LEAST_SHARE < shares[2] < 1


@pytest.mark.parametrize("share", [LEAST_SHARE, 0.45, 1.0])
def test_a_share_of_a_run_is_that_share_of_every_stage_with_as_many_evaluations(share: float) -> None:
    cut = load_config(RECIPE, overrides_for(CONFIG, share))
    for whole, part in zip(CONFIG.stages(2), cut.stages(2), strict=True):
        steps = whole.end_step - whole.first_step
        assert part.seq_length == whole.seq_length
        assert part.end_step - part.first_step == pytest.approx(share * steps, abs=1)
    evaluations = [(c.stages(2)[-1].end_step - 1) // c.train.eval_interval for c in (CONFIG, cut)]
    assert evaluations[0] == evaluations[1] == 2


def test_this_machine_is_measured_and_the_choice_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(RECIPE, ["model.d_model=16"])
    chosen = fit_to_machine(config, 2, CPU, ["model.d_model=16"])
    assert [override.partition("=")[0] for override in chosen] == [
        "precision", "train.curriculum", "train.eval_interval",
    ]  # fmt: skip
    load_config(RECIPE, chosen)
    assert re.fullmatch(
        r" +measured \S+ .* tokens/s in (bf16|fp32) on 2 processes: .* about \d+\.\d minutes\n",
        capsys.readouterr().out,
    )


def test_what_the_user_chose_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_to_machine(CONFIG, 2, CPU, ["precision=bf16", "train.log_interval=1"]) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("step_s", "said"),
    [
        (0.01, "410 k to 410 k tokens/s in bf16 on 2 processes: all 10.0 M tokens fit, about 0."),
        (0.2, " of 10.0 M tokens fit, about 4."),
        (2.0, "2.00 M of 10.0 M tokens, the least that beats every Markov chain, will take about 2"),
    ],
)
def test_the_line_says_what_was_measured_and_what_follows(step_s: float, said: str) -> None:
    config = CONFIG.model_copy(update={"precision": "bf16"})
    assert said in _reason(config, 2, speed(step_s), choose_budget(config, speed(step_s), 2))
