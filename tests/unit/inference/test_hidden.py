"""Rows of hidden states against plain pooling of the states that hooks on one sequence at a time collect."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.config.model import ModelConfig
from hyena_dist.data.tokenizer import PAD, N, Tokens, reverse_complement
from hyena_dist.inference import hidden
from hyena_dist.inference.hidden import POOLS, Rows, layer_numbers, reduced_states
from hyena_dist.models.lm import HyenaDNA
from tests.configs import refusal

CONFIG = ModelConfig(d_model=16, n_layer=3, l_max=256, filter_order=16, embed_dropout=0.1)


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(CONFIG).eval().double()


def random_sequences(lengths: list[int], seed: int = 0) -> list[Tokens]:
    draw = np.random.default_rng(seed)
    found = []
    for length in lengths:
        tokens = draw.integers(7, 11, length).astype(np.uint8)
        tokens[1::5] = N
        found.append(tokens)
    return found


def padded(sequences: list[Tokens]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(s) for s in sequences])
    tokens = torch.full((len(sequences), int(lengths.max())), PAD, dtype=torch.uint8)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = torch.from_numpy(sequence)
    return tokens, lengths


def states_by_hooks(model: HyenaDNA, tokens: Tokens) -> list[np.ndarray]:
    """The states of one sequence, [L, D] of each layer in Hugging Face's numbering, by whole passes."""
    found: list[np.ndarray] = []
    layers = [model.backbone.embeddings.word_embeddings, *model.backbone.layers[:-1], model.backbone.ln_f]
    hooks = [layer.register_forward_hook(lambda _, __, y: found.append(y.detach()[:, 0].numpy())) for layer in layers]
    with torch.no_grad():
        model(torch.from_numpy(tokens)[None])
    for hook in hooks:
        hook.remove()
    return found


def plain_rows(states: np.ndarray, tokens: Tokens, rows: Rows, turned: bool) -> np.ndarray:
    if rows.bin_size is not None:
        states = states[::-1] if turned else states
        starts = range(0, len(states), rows.bin_size)
        return np.stack([states[start : start + rows.bin_size].mean(0) for start in starts])
    bases = states[tokens != N]
    pools = {"mean": bases.mean(0), "std": bases.std(0), "max": bases.max(0), "last": states[-1], "first": states[0]}
    return pools[rows.pool][None]


def collect(model: HyenaDNA, sequences: list[Tokens], layers: tuple[int, ...], rows: Rows, turned: bool) -> dict:
    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for layer, found in reduced_states(model, *padded(sequences), layers, rows, turned):
        parts[layer].append(found)
    return {layer: torch.cat(found).numpy() for layer, found in parts.items()}


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    rows=st.one_of(st.sampled_from([Rows(pool) for pool in POOLS]), st.integers(1, 12).map(lambda n: Rows("mean", n))),
    turned=st.booleans(),
    block=st.integers(1, 50),
)
def test_rows_are_those_of_plain_pooling_of_one_sequence_at_a_time(
    model: HyenaDNA, lengths: list[int], rows: Rows, turned: bool, block: int
) -> None:
    layers = (0, 1, 3)
    sequences = [reverse_complement(s) if turned else s for s in random_sequences(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden, "BLOCK", block)
        found = collect(model, sequences, layers, rows, turned)
    counts = rows.per_sequence(np.array(lengths))
    for layer in layers:
        expected = [plain_rows(states_by_hooks(model, s)[layer], s, rows, turned) for s in sequences]
        assert [len(e) for e in expected] == counts.tolist()
        np.testing.assert_allclose(found[layer], np.concatenate(expected), rtol=1e-10, atol=1e-12)


def test_a_batch_of_mixed_lengths_is_one_by_one_in_fp32(model: HyenaDNA) -> None:
    single = HyenaDNA(CONFIG).eval()
    single.load_state_dict(model.state_dict())
    sequences = random_sequences([200, 3, 64, 129])
    for rows in (Rows("mean"), Rows("last"), Rows("mean", 16)):
        together = collect(single, sequences, (1, 3), rows, False)
        alone = [collect(single, [s], (1, 3), rows, False) for s in sequences]
        for layer, found in together.items():
            expected = np.concatenate([one[layer] for one in alone])
            assert found.dtype == np.float32
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nothing_is_computed_above_the_highest_layer(model: HyenaDNA) -> None:
    calls = []
    hooks = [block.register_forward_hook(lambda *_: calls.append(1)) for block in model.backbone.layers]
    collect(model, random_sequences([8]), (1,), Rows("last"), False)
    for hook in hooks:
        hook.remove()
    assert len(calls) == 1


def test_layers_are_numbered_as_hugging_face_does() -> None:
    assert layer_numbers([-1], 8) == (8,)
    assert layer_numbers([3, 0, -9, 8], 8) == (0, 3, 8)


def test_what_is_not_there_is_refused_in_one_sentence() -> None:
    assert "choose 0 (the embedding) to 8" in refusal(lambda: layer_numbers([9], 8))
    assert "no layer" in refusal(lambda: layer_numbers([], 8))
    assert "mean, std, max, last, first" in refusal(lambda: Rows("sum").check())
    assert "bins of 0 bases" in refusal(lambda: Rows("mean", 0).check())
