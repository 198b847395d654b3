"""Presets of ds_configs and what becomes of them."""

import json
from pathlib import Path

import pytest

from hyena_dist.config.deepspeed import (
    OWNED,
    ZeroTraits,
    compose,
    presets,
    read_preset,
    zero_traits,
)
from hyena_dist.errors import UserError
from hyena_dist.parallel.compat.imports import import_deepspeed

FOLDER = Path(__file__).parents[3] / "ds_configs"


def test_every_file_is_a_preset() -> None:
    assert presets() == sorted(p.stem for p in FOLDER.glob("*.json"))
    assert {"zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"} <= set(presets())


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.json")))
def test_preset_composes(name: str) -> None:
    preset = read_preset(name)
    traits = zero_traits(preset)
    assert traits.stage == int(name[4])
    assert traits.offloads_optimizer == name.endswith("_offload")
    assert traits.late_gradients == (name in ("zero0", "zero1", "zero2"))
    assert traits.filter_evaluations(3, activation_checkpointing=False) == (1 if traits.late_gradients else 3)
    assert traits.filter_evaluations(3, activation_checkpointing=True) == 3
    config = compose(preset, micro_batch_size=3, data_context_size=4, clip_grad=1.0)
    assert {**config, **preset} == config, "a preset's own keys go through"
    assert config["train_batch_size"] == 12 == config["train_micro_batch_size_per_gpu"] * 4
    assert config["gradient_accumulation_steps"] == 1
    assert config["gradient_clipping"] == (0.0 if name == "zero0" else 1.0)
    json.dumps(config)


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.json")))
def test_deepspeed_accepts_the_preset(name: str) -> None:
    import_deepspeed()
    from deepspeed.runtime.zero.config import get_zero_config

    parsed = get_zero_config(compose(read_preset(name), micro_batch_size=1, data_context_size=1, clip_grad=1.0))
    assert int(parsed.stage) == int(name[4])


@pytest.mark.parametrize("key", sorted(OWNED))
def test_owned_keys_are_refused_unless_auto(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({key: {"enabled": True}}))
    with pytest.raises(UserError, match=f"sets {key}, which is said by {OWNED[key]}; remove it or write"):
        read_preset(str(path))
    path.write_text(json.dumps({key: "auto", "zero_optimization": {"stage": 2}}))
    assert read_preset(str(path)) == {"zero_optimization": {"stage": 2}}


def test_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'zero2_ofload' is neither a preset nor a file; did you mean 'zero2_offload'"):
        read_preset("zero2_ofload")
    with pytest.raises(UserError, match=r"presets: zero0, zero1"):
        read_preset("fsdp")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_a_file_that_is_no_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match="is not valid JSON"):
        read_preset(str(tmp_path / "x.json"))


def test_without_zero() -> None:
    assert zero_traits({}) == ZeroTraits(0)
