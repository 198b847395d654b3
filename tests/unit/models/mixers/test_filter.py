"""The implicit filter: its grid, its decay, and what a length warm-up must not change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.filter import HyenaFilter, PositionalFeatures
from hyena_dist.parallel.mesh import Mesh


def make(**fields: object) -> HyenaFilter:
    torch.manual_seed(0)
    built = HyenaFilter(ModelConfig(**{"d_model": 6, "l_max": 100, "filter_order": 16} | fields), Mesh())
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return built


def formula(f: HyenaFilter, config: ModelConfig) -> torch.Tensor:
    """Return [order - 1, D, l_max] as the published code computes it, in float64, with the skip term at lag zero."""
    bands, n = (config.emb_dim - 1) // 2, torch.arange(config.l_max, dtype=torch.float64)
    t = n / (config.l_max - 1)
    angle = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64) * (2 * math.pi * n / config.l_max)[:, None]
    h = torch.cat((t[:, None], angle.cos(), -angle.sin()), dim=1)
    p = {name: value.double() for name, value in f.implicit_filter.named_parameters()}
    for i in range(config.num_inner_mlps + 1):
        h = torch.sin(p["1.freq"] * (h @ p[f"{2 * i}.weight"].T + p[f"{2 * i}.bias"]))
    h = h @ p[f"{2 * config.num_inner_mlps + 2}.weight"].T
    rates = torch.linspace(math.log(1e-2) / 1.5, math.log(1e-2) / 0.3, h.shape[1], dtype=torch.float64).abs()
    h = h * (torch.exp(-t[:, None] * rates) + config.modulation_shift)
    h[0] += f.bias.double()
    return h.T.reshape(config.order - 1, config.d_model, config.l_max)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("shift", [0.0, 0.05])
@pytest.mark.parametrize("inner", [0, 1, 2])
def test_equals_the_formula(order: int, shift: float, inner: int) -> None:
    fields = {"order": order, "modulation_shift": shift, "num_inner_mlps": inner, "emb_dim": 7}
    f = make(**fields)
    expected = formula(f, ModelConfig(d_model=6, l_max=100, filter_order=16, **fields))
    torch.testing.assert_close(f.double()(100), expected, rtol=1e-5, atol=1e-6)  # deltas are stored in float32


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 100), order=st.integers(2, 4))
def test_a_shorter_sequence_has_the_same_filter(length: int, order: int) -> None:
    f = make(order=order).double()
    torch.testing.assert_close(f(length), f(100)[..., :length], rtol=1e-12, atol=1e-12)


def test_another_l_max_is_another_filter() -> None:
    short, long = make(), make(l_max=200)
    long.load_state_dict(short.state_dict())
    assert (long(100) - short(100)).abs().max() > 0.01


def test_stays_fp32_in_a_bf16_model() -> None:
    torch.manual_seed(0)
    config = ModelConfig(d_model=8, l_max=4096)
    exact, mixed = HyenaDNA(config), HyenaDNA(config, compute_dtype=torch.bfloat16)
    mixed.load_state_dict(exact.state_dict())
    filters = [m.backbone.layers[0].mixer.filter_fn for m in (exact, mixed)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        k = filters[1](4096)
    assert k.dtype == torch.float32
    assert torch.equal(k, filters[0](4096))


def test_the_grid_has_a_value_for_every_position() -> None:
    # The README quotes this: the reason why grids are never bf16.
    z, t = PositionalFeatures(2**20, 5)(0, 2**20, torch.float32, torch.device("cpu"))
    assert t.unique().numel() == 2**20
    assert t.bfloat16().unique().numel() == 1793
    assert (z[:, 0] == t).all()
    assert t[0] == 0
    assert t[-1] == 1


def test_all_layers_share_a_grid() -> None:
    grids = [PositionalFeatures(64, 5)(8, 40, torch.float32, torch.device("cpu")) for _ in range(2)]
    assert grids[0].z is grids[1].z
    assert grids[0].t is grids[1].t


def test_a_grid_is_the_same_in_parts() -> None:
    """To the bit, wherever a context rank's positions begin."""
    grid = PositionalFeatures(10_007, 7)
    device = torch.device("cpu")
    whole = grid(0, 10_007, torch.float32, device)
    for start, end in ((0, 4096), (4096, 8192), (4999, 10_007), (10_006, 10_007)):
        part = grid(start, end, torch.float32, device)
        assert torch.equal(part.z, whole.z[start:end])
        assert torch.equal(part.t, whole.t[start:end])


def test_an_evaluation_before_training_leaves_a_grid_for_it() -> None:
    f = make(l_max=93)
    with torch.inference_mode():
        f(93)
    f(93).sum().backward()
    assert not f.pos_emb(0, 93, torch.float32, torch.device("cpu")).z.is_inference()
    assert all(p.grad is not None for p in f.parameters())


def test_a_stored_grid_comes_first() -> None:
    f = make()
    own = f(100)
    z, t = f.pos_emb.grid(0, 100, torch.float32, torch.device("cpu"))
    f.pos_emb.store(2 * z, t)
    assert (f(100) - own).abs().max() > 0.01
    f.pos_emb.z = f.pos_emb.t = None
    assert torch.equal(f(100), own)


def test_the_grid_is_not_in_the_state_dict() -> None:
    assert not [name for name in make().state_dict() if "pos_emb" in name]


def test_the_frequency_is_one_parameter() -> None:
    assert [n for n, _ in make().named_parameters(remove_duplicate=False) if n.endswith("freq")] == [
        "implicit_filter.1.freq"
    ]


def test_the_decay_is_a_buffer_of_the_published_rates() -> None:
    deltas = make(d_model=128).modulation.deltas
    assert deltas.shape == (1, 1, 128)
    assert deltas[0, 0, 0].item() == pytest.approx(-3.0701, abs=1e-4)
    assert deltas[0, 0, -1].item() == pytest.approx(-15.3506, abs=1e-4)
