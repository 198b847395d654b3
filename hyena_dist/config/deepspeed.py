"""Presets of ds_configs/, and the configurations that DeepSpeed gets from them."""

import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.config.deepspeed_keys import check_keys
from hyena_dist.errors import UserError

OWNED = {
    "train_batch_size": "train.global_batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.global_batch_size",
    "gradient_clipping": "optimizer.clip_grad",
    "optimizer": "optimizer",
    "scheduler": "optimizer",
    "amp": "precision",
    "bf16": "precision",
    "bfloat16": "precision",
    "fp16": "precision",
    "torch_autocast": "precision",
    "curriculum_learning": "train.curriculum",
    "data_efficiency": "train.curriculum",
    "elasticity": "train.global_batch_size",
    "managed_gradient_accumulation": "train.global_batch_size",
    "tensor_parallel": "parallel.tensor_model_parallel_size",
}
"""Keys of DeepSpeed -> the places in RunConfig that say them. A preset may give these keys as "auto" only.

What is written for Hugging Face has "auto" in every place below a key, such as {"enabled": "auto"}.
"""


def presets() -> list[str]:
    """Return the names of the presets that come with the project."""
    names = (file.name for file in resources.files("ds_configs").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset by name, or any JSON file by path.

    Raises:
        UserError: unknown name, unreadable JSON, a key that RunConfig owns, or what DeepSpeed does not take.
    """
    if name in presets():
        text = (resources.files("ds_configs") / f"{name}.json").read_text()
    else:
        path = Path(name)
        if not path.is_file():
            near = difflib.get_close_matches(name, presets(), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"presets: {', '.join(presets())}"
            raise UserError(f"parallel.zero '{name}' is neither a preset nor a file; {hint}")
        try:
            text = path.read_text(errors="replace")
        except OSError as error:
            raise UserError(f"parallel.zero '{name}' cannot be read ({error.strerror}); mend its rights") from error
    try:
        preset = json.loads(text)
        if not isinstance(preset, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UserError(f"parallel.zero '{name}' is not valid JSON ({error}); mend the file") from error
    for key, owner in OWNED.items():
        if not _is_auto(preset.get(key, "auto")):
            raise UserError(f"parallel.zero '{name}' sets {key}, which is said by {owner}; remove it or write \"auto\"")
    preset = {k: v for k, v in preset.items() if k not in OWNED}
    check_keys(preset, f"parallel.zero '{name}'")
    return preset


def _is_auto(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_auto(below) for below in value.values())
    return bool(value == "auto")


def compose(
    preset: dict[str, Any], *, micro_batch_size: int, data_context_size: int, clip_grad: float
) -> dict[str, Any]:
    """Return the whole DeepSpeed configuration.

    Accumulation is 1 here because the training loop marks its boundaries itself: DeepSpeed counts micro-batches over
    the whole run, which goes wrong when a curriculum stage changes their number per step.
    """
    return {
        **preset,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": 1,
        "train_batch_size": micro_batch_size * data_context_size,
        # Stage 0 neither reports a norm nor counts parameters over tensor ranks: there we clip ourselves.
        "gradient_clipping": 0.0 if zero_traits(preset).stage == 0 else clip_grad,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**40,
        # DeepSpeed's own timer lets the host wait for the GPU twice a micro-batch; profile/phases.py does not.
        "timers": {"throughput": {"enabled": False}},
    }


class ZeroTraits(NamedTuple):
    """The parts of a DeepSpeed configuration that memory, traffic and training depend on."""

    stage: int
    """The ZeRO stage, 0 to 3. Stages 0 and 1 reduce gradients once a step, 2 and 3 after each micro-batch."""
    offloads_optimizer: bool = False
    """Whether optimizer states live in CPU memory."""
    persistence_threshold: int = 10**5
    """Parameters of at most so many numbers are kept whole by stage 3, which gathers them once a step."""
    live_parameters: int = 10**9
    """If the larger parameters have at most so many numbers, stage 3 keeps them from forward to backward pass."""

    @property
    def late_gradients(self) -> bool:
        """Whether a parameter may get its gradient in the last micro-batch of a step alone.

        Not with stage 3 or offloading: DeepSpeed (0.19) adds the gradient of any micro-batch but the step's first to
        what it has for the parameter, which is the gradient of the step before if the first brought none.
        """
        return self.stage < 3 and not self.offloads_optimizer

    def filter_evaluations(self, micro_batches: int, *, activation_checkpointing: bool) -> int:
        """Count how often a step evaluates the filters, forward and backward; see HyenaDNA.share_filters."""
        return 1 if self.late_gradients and not activation_checkpointing else micro_batches


def zero_traits(preset: dict[str, Any]) -> ZeroTraits:
    """Return the traits of a configuration, with DeepSpeed's defaults where it is silent."""
    zero = preset.get("zero_optimization", {})
    offload = zero.get("offload_optimizer") or {}
    live = [int(zero.get(f"stage3_max_{what}", 10**9)) for what in ("live_parameters", "reuse_distance")]
    return ZeroTraits(
        stage=int(zero.get("stage", 0)),
        offloads_optimizer=offload.get("device", "none") == "cpu",
        persistence_threshold=int(zero.get("stage3_param_persistence_threshold", 10**5)),
        live_parameters=min(live),
    )
