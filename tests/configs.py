"""Small configurations, and the sentence that refuses one."""

import copy
from typing import Any

import pytest

from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError

TREE: dict[str, Any] = {
    "data": {"path": "store"},
    "train": {
        "curriculum": [{"seq_length": 64, "tokens": 1000}, {"seq_length": 256, "train_iters": 5}],
        "global_batch_size": 8,
    },
}


def tree_with(**train: Any) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    tree["train"] |= train
    return tree


def config_with(**train: Any) -> RunConfig:
    return parse_config(tree_with(**train), "test")


def refusal(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message
