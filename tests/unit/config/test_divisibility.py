"""Impossible layouts are refused with the arithmetic and values that work; possible ones are accepted."""

import copy
import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hyena_dist.config.divisibility import Layout, nearest
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from tests.configs import refusal


def tree(
    tensor: int = 1,
    context: int = 1,
    sequence_parallel: bool = False,
    lengths: tuple[int, ...] = (64,),
    evaluation: tuple[int, ...] = (),
    **model: Any,
) -> dict[str, Any]:
    return {
        "model": model,
        "parallel": {
            "tensor_model_parallel_size": tensor,
            "context_parallel_size": context,
            "sequence_parallel": sequence_parallel,
        },
        "data": {"path": "store"},
        "train": {"curriculum": [{"seq_length": n, "train_iters": 1} for n in lengths], "global_batch_size": 8},
        "evaluation": {"lengths": list(evaluation)},
    }


def config(*args: Any, **kwargs: Any) -> RunConfig:
    return parse_config(tree(*args, **kwargs), "test")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"tensor": 3},
         "tensor_model_parallel_size 3 does not divide model.d_model 128 (128 / 3 = 42.67); try 2 or 4"),
        ({"tensor": 32},
         "tensor_model_parallel_size 32 does not divide the padded vocabulary 16 (16 / 32 = 0.50); try 16"),
        ({"tensor": 4, "d_inner": 130},
         "tensor_model_parallel_size 4 does not divide model.d_inner 130 (130 / 4 = 32.50); try 2"),
        # 4 divides d_model, not d_inner: what is to be tried works altogether.
        ({"tensor": 3, "d_inner": 130},
         "tensor_model_parallel_size 3 does not divide model.d_model 128 (128 / 3 = 42.67); try 2"),
        ({"tensor": 4, "layer_pattern": "HA"},
         "tensor_model_parallel_size 4 does not divide model.num_attention_heads 2 (2 / 4 = 0.50); try 2"),
        ({"tensor": 4, "layer_pattern": "HA", "num_attention_heads": 6, "d_model": 96},
         "tensor_model_parallel_size 4 does not divide model.num_attention_heads 6 (6 / 4 = 1.50); try 2"),
        ({"context": 20, "lengths": (20,), "d_model": 16},
         "context_parallel_size 20 leaves ranks without a share of model.d_model 16 / tensor_model_parallel_size 1 "
         "= 16; try 10"),
        ({"tensor": 2, "context": 2, "layer_pattern": "AA"},
         "context_parallel_size 2 leaves ranks without a share of model.num_attention_heads 2 / "
         "tensor_model_parallel_size 2 = 1; try 1, or tensor_model_parallel_size 1"),
        ({"context": 3, "lengths": (999, 1000)},
         "seq_length 1000 of stage 2 is not a multiple of context_parallel_size 3; "
         "try 999 or 1002, or context_parallel_size 1"),
        ({"context": 3, "lengths": (1000,)},
         "seq_length 1000 of stage 1 is not a multiple of context_parallel_size 3; "
         "try 999 or 1002, or context_parallel_size 2 or 4"),
        ({"context": 4, "evaluation": (64, 62)},
         "seq_length 62 of evaluation is not a multiple of context_parallel_size 4; "
         "try 60 or 64, or context_parallel_size 2"),
        ({"tensor": 2, "sequence_parallel": True, "lengths": (77,)},
         "seq_length 77 of stage 1 is not a multiple of tensor_model_parallel_size 2 (sequence_parallel); "
         "try 76 or 78, or sequence_parallel false"),
        ({"tensor": 2, "context": 4, "sequence_parallel": True, "lengths": (36,)},
         "seq_length 36 of stage 1 is not a multiple of context_parallel_size 4 x tensor_model_parallel_size 2 = 8 "
         "(sequence_parallel); try 32 or 40, or context_parallel_size 3 or 6, or sequence_parallel false"),
        # Beyond l_max and below one position there is nothing to try.
        ({"context": 8, "lengths": (9,), "l_max": 10}, "size 8; try 8, or context_parallel_size 3 or 9"),
        ({"context": 8, "lengths": (5,)}, "size 8; try 8, or context_parallel_size 5"),
        ({"tensor": 8, "context": 8, "sequence_parallel": True, "lengths": (5,), "l_max": 6},
         "(sequence_parallel); set tensor_model_parallel_size and context_parallel_size to 1"),
        ({"lengths": (64, 2000)},
         "seq_length 2000 of stage 2 is longer than model.l_max 1026; set model.l_max=2000 or shorten the sequences"),
    ],
)  # fmt: skip
def test_known_refusals(asked: dict[str, Any], sentence: str) -> None:
    message = refusal(lambda: config(**asked))
    assert message.startswith("test: ")
    assert message.endswith(sentence)


@pytest.mark.parametrize(
    "asked",
    [
        {"sequence_parallel": True, "lengths": (77,)},  # nothing to spread: harmless
        {"context": 3, "lengths": (66,)},  # channels need not divide among context ranks
        {"context": 3, "lengths": (66,), "d_model": 96, "num_attention_heads": 4, "layer_pattern": "HA"},  # nor heads
        {"context": 16, "lengths": (16,), "d_model": 16},  # chunks shorter than the short filter
        {"tensor": 2, "lengths": (77,)},
        {"tensor": 4, "layer_pattern": "HH"},  # heads do not matter without attention
        {"tensor": 2, "context": 4, "sequence_parallel": True, "lengths": (64, 512), "evaluation": (8, 1024)},
    ],
)  # fmt: skip
def test_accepted(asked: dict[str, Any]) -> None:
    config(**asked)


def broken_rules(t: dict[str, Any]) -> set[str]:
    """The rules, written again from what the parts need rather than from the code."""
    model = t["model"]
    T, C, sp = (t["parallel"][k] for k in PARALLEL)
    D, heads, V = model["d_model"], model["num_attention_heads"], -(-12 // 8) * 8
    units = {"d_model": D, "d_inner": model["d_inner"], "vocabulary": V}
    if "A" in model["layer_pattern"]:
        units["heads"] = heads
    broken = {f"{name} / T" for name, size in units.items() if size // T * T != size}
    broken |= {f"{name} / T / C" for name in ("d_model", "heads") if name in units and units[name] // T < C}
    stages = [("stage", i, s["seq_length"]) for i, s in enumerate(t["train"]["curriculum"])]
    for where, i, n in stages + [("evaluation", i, n) for i, n in enumerate(t["evaluation"]["lengths"])]:
        chunk, rest = divmod(n, C)
        whole = rest == 0 and (not sp or chunk % T == 0)
        broken |= {f"length of {where} {i}"} if not whole else set()
        broken |= {f"l_max of {where} {i}"} if n > model["l_max"] else set()
    return broken


PARALLEL = ("tensor_model_parallel_size", "context_parallel_size", "sequence_parallel")


def suggestions(message: str, t: dict[str, Any]) -> list[dict[str, Any]]:
    """The tree with each value that a refusal says to try."""
    head, separator, tries = message.removeprefix("test: ").partition("; try ")
    if not separator:
        fix = re.fullmatch(r".*; set (.*)", message)
        assert fix is not None, message
        asked = copy.deepcopy(t)
        if l_max := re.match(r"model\.l_max=(\d+)", fix[1]):
            asked["model"]["l_max"] = int(l_max[1])
        else:
            asked["parallel"] |= {"tensor_model_parallel_size": 1, "context_parallel_size": 1}
        return [asked]
    found = []
    for n, choice in enumerate(tries.split(", or ")):
        key, values = (head.split(" ")[0], choice) if n == 0 else (None, choice)
        if choice.split(" ")[0] in PARALLEL:
            key, _, values = choice.partition(" ")
        for value in values.split(" or "):
            asked = copy.deepcopy(t)
            if key in PARALLEL:
                asked["parallel"][key] = False if value == "false" else int(value)
            else:
                place = re.match(r"seq_length (\d+) of (?:stage (\d+)|evaluation)", head)
                assert place is not None, message
                if place[2]:
                    asked["train"]["curriculum"][int(place[2]) - 1]["seq_length"] = int(value)
                else:
                    lengths = asked["evaluation"]["lengths"]
                    lengths[lengths.index(int(place[1]))] = int(value)
            found.append(asked)
    assert found, message
    return found


sizes = st.integers(1, 12)
some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=3).map(tuple)


@given(
    sizes, sizes, st.booleans(), some_lengths, st.just(()) | some_lengths, st.integers(2, 70),
    st.integers(1, 8), st.integers(1, 4), st.none() | st.integers(1, 100), st.sampled_from(["HH", "HA", "AA"]),
)  # fmt: skip
@example(8, 8, True, (5,), (), 6, 8, 4, None, "HH")
@example(3, 5, True, (50, 7), (9, 9), 60, 4, 2, 30, "HA")
def test_laws(
    tensor: int, context: int, sequence_parallel: bool, lengths: tuple[int, ...], evaluation: tuple[int, ...],
    l_max: int, heads: int, half_head: int, d_inner: int | None, pattern: str,
) -> None:  # fmt: skip
    d_model = 2 * heads * half_head
    asked = tree(
        tensor, context, sequence_parallel, lengths, evaluation, l_max=l_max, d_model=d_model, layer_pattern=pattern,
        num_attention_heads=heads, d_inner=d_inner or 4 * d_model,
    )  # fmt: skip
    broken = broken_rules(asked)
    message = sentence(asked)
    assert bool(message) == bool(broken), message
    if not message:
        return
    assert re.fullmatch(r"test: \w+ \d+ .*\d+.*; (try|set) [^;]+", message), "value, reason, fix"
    for mended in suggestions(message, asked):
        left, next_message = broken_rules(mended), sentence(mended)
        assert left < broken, f"{message}: {left}"
        assert bool(next_message) == bool(left), next_message
        assert reason(next_message) != reason(message)


def sentence(t: dict[str, Any]) -> str:
    """Return the sentence that refuses a tree; it is empty if the tree is accepted."""
    try:
        parse_config(t, "test")
    except UserError as error:
        return str(error)
    return ""


def reason(message: str) -> str:
    return message.partition(";")[0]


@given(sizes, sizes, st.integers(-3, 300))
def test_world_size(tensor: int, context: int, world_size: int) -> None:
    layout = Layout(
        tensor, context, False, d_model=144, d_inner=144, vocabulary=16, mixer_units=(), l_max=99, lengths=()
    )
    unit = tensor * context
    if world_size > 0 and world_size % unit == 0:
        assert layout.data_parallel_size(world_size) * unit == world_size
        return
    match = re.fullmatch(
        rf"world size {world_size} is not a (?:positive )?multiple of tensor x context parallel size "
        rf"{tensor} x {context} = {unit}; start (.+) ranks",
        refusal(lambda: layout.data_parallel_size(world_size)),
    )
    assert match is not None
    for ranks in map(int, match[1].split(" or ")):
        assert abs(ranks - max(world_size, 0)) <= unit
        assert layout.data_parallel_size(ranks) * unit == ranks


def test_a_known_world_size() -> None:
    asked = config(2, 2)
    assert refusal(lambda: asked.stages(6)) == (
        "world size 6 is not a multiple of tensor x context parallel size 2 x 2 = 4; start 4 or 8 ranks"
    )
    assert refusal(lambda: asked.stages(1)).endswith("= 4; start 4 ranks")
    assert refusal(lambda: asked.stages(0)).endswith("= 4; start 4 ranks")
    assert asked.layout_of(asked.stages(8)).data_parallel_size(12) == 3


@given(sizes, sizes, st.integers(1, 8), st.integers(1, 5))
def test_batches_divide_among_data_parallel_ranks(tensor: int, context: int, data: int, micro: int) -> None:
    """Tensor and context ranks read the same samples: only W / (T * C) ranks share a batch."""
    assume(context <= 12)
    asked = tree(tensor, context, lengths=(context, 2 * context), d_model=12 * tensor, pad_vocab_size_multiple=tensor)
    asked["train"] |= {"global_batch_size": 3 * micro * data, "micro_batch_size": micro}
    for stage in parse_config(asked, "test").stages(tensor * context * data):
        assert stage.data_parallel_size == data
        assert stage.gradient_accumulation_steps == 3


@pytest.mark.parametrize(
    ("asked", "ranks", "line"),
    [
        ({}, 1, "layout: 1 rank = tensor 1 x context 1 x data 1"),
        ({"sequence_parallel": True}, 2, "layout: 2 ranks = tensor 1 x context 1 x data 2"),
        ({"tensor": 2}, 4, "layout: 4 ranks = tensor 2 x context 1 x data 2; each rank holds 64 of 128 channels"),
        ({"context": 2, "lengths": (512, 256), "evaluation": (1024,)}, 2,
         "layout: 2 ranks = tensor 1 x context 2 x data 1; "
         "each rank holds 128 of 256, 256 of 512, 512 of 1,024 positions"),
        ({"tensor": 2, "context": 2, "sequence_parallel": True, "lengths": (1024, 1024)}, 8,
         "layout: 8 ranks = tensor 2 x context 2 x data 2, sequence parallel; each rank holds 64 of 128 channels; "
         "512 of 1,024 positions; 256 of 1,024 positions of the residual stream"),
    ],
)  # fmt: skip
def test_describe(asked: dict[str, Any], ranks: int, line: str) -> None:
    assert config(**asked).layout_of(config(**asked).stages(ranks)).describe(ranks) == line


def test_nearest() -> None:
    assert nearest(3, [1, 2, 4, 8]) == "2 or 4"
    assert nearest(3, [8, 4]) == "4"
    assert nearest(3, [1, 3]) == "1"
    assert nearest(3, [3]) == ""
