"""From a preset of ds_configs/ to the configuration that DeepSpeed gets."""

import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from hyena_dist.errors import UserError

OWNED = {
    "train_batch_size": "train.global_batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.global_batch_size",
    "gradient_clipping": "optimizer.clip_grad",
    "optimizer": "optimizer",
    "scheduler": "optimizer",
    "bf16": "precision",
    "fp16": "precision",
    "torch_autocast": "precision",
    "data_efficiency": "train.curriculum",
}
"""DeepSpeed key -> the place in RunConfig that says it. A preset may give these as "auto" only."""


def presets() -> list[str]:
    """Names of the presets that come with the project."""
    names = (file.name for file in resources.files("ds_configs").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_preset(name: str) -> dict[str, Any]:
    """A preset by name, or any JSON file by path.

    Raises:
        UserError: unknown name, unreadable JSON, or a key that RunConfig owns.
    """
    if name in presets():
        text = (resources.files("ds_configs") / f"{name}.json").read_text()
    else:
        path = Path(name)
        if not path.is_file():
            near = difflib.get_close_matches(name, presets(), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"presets: {', '.join(presets())}"
            raise UserError(f"parallel.zero '{name}' is neither a preset nor a file; {hint}")
        text = path.read_text(errors="replace")
    try:
        preset = json.loads(text)
        if not isinstance(preset, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UserError(f"parallel.zero '{name}' is not valid JSON ({error}); mend the file") from error
    for key, owner in OWNED.items():
        if preset.get(key, "auto") != "auto":
            raise UserError(f"parallel.zero '{name}' sets {key}, which is said by {owner}; remove it or write \"auto\"")
    return {k: v for k, v in preset.items() if k not in OWNED}


def compose(
    preset: dict[str, Any], *, micro_batch_size: int, data_context_size: int, clip_grad: float
) -> dict[str, Any]:
    """The whole DeepSpeed configuration.

    Accumulation is 1 here because the training loop marks its boundaries itself: DeepSpeed counts micro-batches over
    the whole run, which goes wrong when a curriculum stage changes their number per step.
    """
    return {
        **preset,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": 1,
        "train_batch_size": micro_batch_size * data_context_size,
        # Stage 0 neither reports a norm nor counts parameters over tensor ranks: there we clip ourselves.
        "gradient_clipping": 0.0 if zero_stage(preset) == 0 else clip_grad,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**40,
    }


def zero_stage(preset: dict[str, Any]) -> int:
    """The ZeRO stage of a configuration."""
    return int(preset.get("zero_optimization", {}).get("stage", 0))


def offloads_optimizer(preset: dict[str, Any]) -> bool:
    """Whether optimizer states live in CPU memory."""
    device = preset.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none")
    return bool(device == "cpu")
