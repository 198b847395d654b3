"""The best evaluation of valid."""

import json
import math
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.tasks.best import Best, Goal


@given(st.lists(st.floats(0, 1), min_size=1), st.sampled_from(["loss", "mcc"]))
def test_it_is_the_first_of_the_best(values: list[float], metric: str) -> None:
    best = Best()
    for step, value in enumerate(values, 1):
        best = Best(**json.loads(json.dumps(asdict(best.after(step, value, Goal(metric))))))
    wanted = min(values) if metric == "loss" else max(values)
    assert best == Best(len(values), values.index(wanted) + 1, wanted, len(values) - 1 - values.index(wanted))


def test_a_number_is_better_than_none() -> None:
    best = Best().after(1, math.nan, Goal("auroc"))
    assert best == Best(1, 1, None)
    assert best.after(2, math.nan, Goal("auroc")) == Best(2, 1, None, 1)
    assert best.after(2, 0.1, Goal("auroc")).after(3, math.nan, Goal("auroc")) == Best(3, 2, 0.1, 1)
