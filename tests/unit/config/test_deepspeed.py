"""Presets of ds_configs and what becomes of them."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hyena_dist.config import deepspeed_keys
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
from tests.configs import refusal

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
    for auto in ("auto", {"enabled": "auto"}, {"type": "auto", "params": {"lr": "auto"}}):
        path.write_text(json.dumps({key: auto, "zero_optimization": {"stage": 2}}))
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


def zero(**values: Any) -> dict[str, Any]:
    return {"zero_optimization": values}


@pytest.mark.parametrize(
    ("preset", "sentence"),
    [
        ({"zero_optimisation": {"stage": 2}}, "zero_optimisation is unknown to DeepSpeed; did you mean 'zero_optimiz"),
        ({"zzz": 1}, "zzz is unknown to DeepSpeed; keys: activation_checkpointing, aio,"),
        ({"zero_optimization": None}, "zero_optimization is null; remove it or give it a value"),
        ({"zero_optimization": 2}, 'zero_optimization is 2, not an object; write for example {"stage": 1}'),
        ({"flops_profiler": None}, "flops_profiler is null; remove it"),
        (zero(stage="auto"), 'zero_optimization.stage is "auto"; write 0, 1, 2 or 3'),
        (zero(stage=5), "zero_optimization.stage is 5; write 0, 1, 2 or 3"),
        (zero(stage=None), "zero_optimization.stage is null; write 0, 1, 2 or 3"),
        (zero(stage=True), "zero_optimization.stage is true; write 0, 1, 2 or 3"),
        (zero(overlap_com=True), "zero_optimization.overlap_com is unknown to DeepSpeed; did you mean 'overlap_comm'?"),
        (zero(reduce_bucket_size=0), "reduce_bucket_size is 0; write a whole number of elements above 0"),
        (zero(reduce_bucket_size="auto"), 'reduce_bucket_size is "auto"; write a whole number'),
        (zero(reduce_bucket_size=float("nan")), "reduce_bucket_size is NaN; write a whole number"),
        (zero(stage3_max_live_parameters=-1), "is -1; write a whole number from 0 on"),
        (zero(overlap_comm="yes"), 'overlap_comm is "yes"; write true or false'),
        (zero(offload_optimizer="cpu"), 'an object with "device": "none", "cpu" or "nvme"'),
        (zero(offload_optimizer={"device": "gpu"}), 'an object with "device": "none", "cpu" or "nvme"'),
        (zero(offload_param={"devise": "cpu"}), "offload_param.devise is unknown to DeepSpeed; did you mean 'device'?"),
    ],
)  # fmt: skip
def test_what_deepspeed_does_not_take(preset: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(preset))
    said = refusal(lambda: read_preset(str(path)))
    assert said.startswith(f"parallel.zero '{path}': ")
    assert sentence in said


def test_what_it_takes_goes_through(tmp_path: Path) -> None:
    zero = {
        "stage": 3,
        "overlap_comm": None,
        "offload_param": None,
        "offload_optimizer": None,
        "reduce_bucket_size": 5e7,
    }
    (tmp_path / "mine.json").write_text(json.dumps({"zero_optimization": zero, "prescale_gradients": True}))
    preset = read_preset(str(tmp_path / "mine.json"))
    assert preset == {"zero_optimization": zero, "prescale_gradients": True}
    assert zero_traits(preset) == ZeroTraits(3)


class Asked(dict[str, Any]):
    """A configuration that remembers which of its keys were asked for."""

    keys_asked: ClassVar[set[str]] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:
        return self


def test_the_keys_are_those_of_deepspeed() -> None:
    import_deepspeed()
    from deepspeed.runtime import config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    def fields(section: Any) -> set[str]:
        return {field.alias or name for name, field in section.model_fields.items()}

    config.DeepSpeedConfig(Asked(compose({}, micro_batch_size=1, data_context_size=1, clip_grad=1.0)))
    assert Asked.keys_asked - config._REMOVED_TOP_LEVEL_CONFIG_KEYS.keys() == deepspeed_keys.TOP
    assert fields(DeepSpeedZeroConfig) == deepspeed_keys.ZERO
    assert fields(DeepSpeedZeroOffloadParamConfig) == deepspeed_keys.OFFLOAD["offload_param"]
    assert fields(DeepSpeedZeroOffloadOptimizerConfig) == deepspeed_keys.OFFLOAD["offload_optimizer"]
