"""Names, sizes and specs for megatron-core; tests/distributed/test_megatron_spec.py has the computation."""

import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.megatron import (
    MixerAsAttention,
    gpt_state_dict,
    hyena_block_spec,
    hyena_state_dict,
    transformer_config,
)

CONFIG = ModelConfig(d_model=16, n_layer=3, l_max=20, filter_order=8, layer_pattern="HAH", num_attention_heads=2)


def test_names_go_both_ways() -> None:
    state = HyenaDNA(CONFIG).state_dict()
    renamed = gpt_state_dict(state)
    assert renamed.keys().isdisjoint(state)
    assert not any(name.startswith("backbone.") for name in renamed)
    assert hyena_state_dict(renamed | {"decoder.layers.0.mlp.linear_fc1._extra_state": None}) == state


def test_layers_follow_the_pattern() -> None:
    specs = hyena_block_spec(CONFIG).layer_specs
    mixers = [spec.submodules.self_attention for spec in specs]
    assert [mixer.module for mixer in mixers] == [MixerAsAttention] * 3
    assert [mixer.params["mixer"] for mixer in mixers] == list("HAH")


def test_initial_values_have_our_spread() -> None:
    config = transformer_config(ModelConfig(n_layer=8, initializer_range=0.5))
    assert config.init_method(torch.empty(10_000)).std().item() == pytest.approx(0.5, rel=0.05)
    assert config.output_layer_init_method(torch.empty(10_000)).std().item() == pytest.approx(0.5 / 4, rel=0.05)


def test_overrides_win() -> None:
    config = transformer_config(CONFIG, params_dtype=torch.bfloat16, hidden_dropout=0.5)
    assert (config.hidden_size, config.num_attention_heads, config.ffn_hidden_size) == (16, 2, 64)
    assert (config.params_dtype, config.hidden_dropout) == (torch.bfloat16, 0.5)
