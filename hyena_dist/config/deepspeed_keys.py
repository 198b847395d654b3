"""The keys that DeepSpeed knows, and the values that it takes where a wrong one would surface late or not at all."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hyena_dist.errors import UserError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP = _words(
    """
    activation_checkpointing aio autotuning bf16 bfloat16 checkpoint comet comms_logger communication_data_type
    compile csv_monitor data_efficiency data_types dataloader_drop_last datastates_ckpt disable_allgather
    disable_python_gc dump_state expert_parallel flops_profiler fp16 gradient_accumulation_steps
    gradient_allreduce_op gradient_clipping gradient_predivide_factor hybrid_engine log_level
    managed_gradient_accumulation memory_breakdown optimizer pipeline prescale_gradients scheduler
    seq_parallel_communication_data_type steps_per_print tensor_parallel tensorboard timers torch_autocast
    train_batch_size train_micro_batch_size_per_gpu use_data_before_expert_parallelism vocabulary_size
    wall_clock_breakdown wandb weight_quantization zero_allow_untested_optimizer zero_force_ds_cpu_optimizer
    zero_optimization
    """
)
"""The keys of a configuration, of DeepSpeed 0.19."""

_POSITIVE = frozenset({"reduce_bucket_size", "allgather_bucket_size"})
_SIZES = _words(
    """
    sub_group_size stage3_max_live_parameters stage3_max_reuse_distance stage3_model_persistence_threshold
    stage3_module_granularity_threshold stage3_param_persistence_threshold stage3_prefetch_bucket_size
    zero_hpz_partition_size
    """
)
_FLAGS = _words(
    """
    allgather_partitions compute_grad_norm contiguous_gradients cpu_offload cpu_offload_param
    cpu_offload_use_pin_memory elastic_checkpoint enable_sanity_checks ignore_unused_parameters legacy_stage1
    load_from_fp32_weights log_trace_cache_warnings memory_efficient_linear overlap_comm override_module_apply
    parameter_alignment pipeline_loading_checkpoint reduce_scatter round_robin_gradients
    save_muon_momentum_buffer_in_memory stage3_allgather_sequential stage3_gather_16bit_weights_on_model_save
    stage3_gather_fp16_weights_on_model_save stage3_use_all_reduce_for_fetch_params
    use_multi_rank_bucket_allreduce zero_quantized_gradients zero_quantized_nontrainable_weights
    zero_quantized_weights
    """
)
OFFLOAD = {
    "offload_param": _words("device nvme_path buffer_count buffer_size max_in_cpu pin_memory"),
    "offload_optimizer": _words(
        """
        device nvme_path buffer_count pin_memory pipeline_read pipeline_write fast_init ratio super_offload
        cpuadam_cores_perc
        """
    ),
}
"""The keys of the sections below `zero_optimization`."""

ZERO = _POSITIVE | _SIZES | _FLAGS | OFFLOAD.keys() | {"stage", "leaf_module", "zenflow"}
"""The keys of `zero_optimization`."""


def check_keys(config: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration that DeepSpeed would refuse in its own words, or would train otherwise than it says.

    Args:
        config: the whole configuration.
        name: what errors call it.

    Raises:
        UserError: a key that DeepSpeed does not know, or a value that it does not take.
    """
    _refuse_unknown(config, TOP, f"{name}:")
    for key, value in config.items():
        if value is None:
            raise UserError(f"{name}: {key} is null; remove it or give it a value")
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise UserError(
            f'{name}: zero_optimization is {json.dumps(zero)}, not an object; write for example {{"stage": 1}}'
        )
    _refuse_unknown(zero, ZERO, f"{name}: zero_optimization.")
    for key, value in zero.items():
        if wanted := _wanted(key, value):
            raise UserError(f"{name}: zero_optimization.{key} is {json.dumps(value)}; write {wanted}")
        if key in OFFLOAD and value is not None:
            _refuse_unknown(value, OFFLOAD[key], f"{name}: zero_optimization.{key}.")


def _refuse_unknown(section: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"keys: {', '.join(sorted(known))}"
            raise UserError(f"{where}{'' if where.endswith('.') else ' '}{key} is unknown to DeepSpeed; {hint}")


def _wanted(key: str, value: Any) -> str | None:
    """Return what is wanted instead of a value of `zero_optimization`; None if it is right."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if key == "stage":
        return None if number and value in (0, 1, 2, 3) else "0, 1, 2 or 3"
    if key in _POSITIVE:
        return None if number and value > 0 else "a whole number of elements above 0"
    if key in _SIZES:
        return None if number and value >= 0 else "a whole number from 0 on"
    if key in _FLAGS:
        return None if isinstance(value, bool) or (value is None and key == "overlap_comm") else "true or false"
    if key in OFFLOAD:
        device = value.get("device", "none") if isinstance(value, dict) else None
        right = value is None or device in ("none", "cpu", "nvme")
        return None if right else 'an object with "device": "none", "cpu" or "nvme"'
    return None
