"""Rows that batches in any order have written, read in the order of the input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.data.tokenizer import Tokens, encode, reverse_complement
from hyena_dist.inference import hidden
from hyena_dist.inference.batches import pad_right
from hyena_dist.inference.embedding_parts import PartLayout
from hyena_dist.inference.hidden import Rows, reduced_states
from hyena_dist.models.lm import HyenaDNA
from tests.configs import refusal

LAYERS = (0, 2)
SEQUENCES = [encode(text) for text in ("ACGTTGCANN", "TTG", "CCATACGGACTTA", "ACGTT")]
LENGTHS = np.array([len(tokens) for tokens in SEQUENCES])
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(ModelConfig(d_model=16, n_layer=2, l_max=64, filter_order=16)).eval()


def alone(model: HyenaDNA, tokens: Tokens, layer: int, rows: Rows, turned: bool) -> np.ndarray:
    given = pad_right([reverse_complement(tokens) if turned else tokens])
    return torch.cat([found for _, found in reduced_states(model, *given, [layer], rows, turned)]).numpy()


@pytest.mark.parametrize("strands", ["one", "both", "concat"])
@pytest.mark.parametrize("rows", [Rows("mean"), Rows("last"), Rows("mean", 4), Rows("mean", 1)])
def test_any_rows_of_any_batches_are_those_of_one_sequence_at_a_time(
    model: HyenaDNA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strands: str, rows: Rows
) -> None:
    monkeypatch.setattr(hidden, "BLOCK", 5)
    layout = PartLayout([np.array([2]), np.array([3, 0]), np.array([1])], LENGTHS, rows, LAYERS, strands, 16)
    for number in (1, 0, 2):
        batch = [SEQUENCES[i] for i in layout.batches[number]]
        layout.write(tmp_path / str(number), model, NAMES, batch, number)
    read = layout.reader(lambda number: tmp_path / str(number))
    for layer in LAYERS:
        one, other = (np.concatenate([alone(model, s, layer, rows, turned) for s in SEQUENCES]) for turned in (0, 1))
        expected = {"one": one, "both": (one + other) / 2, "concat": np.concatenate((one, other), axis=1)}[strands]
        assert expected.shape[1] == layout.width
        found = read(layer, 0, len(expected))
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        for start, end in ((0, 1), (1, 3), (len(expected) - 2, len(expected))):
            np.testing.assert_array_equal(read(layer, start, end), found[start:end])


def test_a_state_that_is_not_finite_is_refused(model: HyenaDNA, tmp_path: Path) -> None:
    broken = HyenaDNA(model.config).eval()
    broken.backbone.ln_f.weight.data[0] = torch.nan
    layout = PartLayout([np.array([2, 0])], LENGTHS, Rows("mean"), (2,), "one", 16)
    said = refusal(lambda: layout.write(tmp_path / "0", broken, NAMES, [SEQUENCES[2], SEQUENCES[0]], 0))
    assert "layer 2 gives NaN or infinite numbers in the batch of c" in said
