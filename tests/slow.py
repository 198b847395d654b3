"""Cases that take long, which `make test` leaves to `make test-all`, each with the faults that it alone catches.

The durations of a whole run say which; a like case, mostly that of fewer ranks, stays in `make test`.
"""

SLOW = {
    # case of a test, or a test, or a file: the faults that would then be seen by `make test-all` alone
    "distributed/test_checkpoint_writer.py::test_round_trip[tp2cp1dp1]": "fragments of tensor ranks under each preset",
    "distributed/test_checkpoint_writer.py::test_round_trip[tp1cp2dp1]": "fragments of context ranks under each preset",
    "distributed/test_checkpoint_writer.py::test_round_trip[tp2cp1dp1sp]": "the same with sequence parallelism",
    "distributed/test_checkpoint_writer.py::test_round_trip[tp2cp1dp2]": "fragments spread over tensor and data ranks",
    "distributed/test_parity.py::test_equals_one_process[tp4cp1dp1]": "layouts of four ranks along one axis",
    "distributed/test_parity.py::test_equals_one_process[tp4cp1dp1sp]": "layouts of four ranks along one axis",
    "distributed/test_parity.py::test_equals_one_process[tp1cp4dp1]": "halos that reach over two neighbours",
    "distributed/test_parity.py::test_equals_one_process[tp1cp2dp2]": "gradients over context and data ranks",
    "distributed/test_parity.py::test_equals_one_process[tp2cp2dp1]": "tensor and context without sequence parallelism",
    "distributed/test_stop_and_go.py::test_killed_and_resumed[zero0-fp32]": "resuming without ZeRO",
    "distributed/test_stop_and_go.py::test_killed_and_resumed[zero2-fp32]": "resuming under ZeRO 2",
    "distributed/test_stop_and_go.py::test_killed_and_resumed[zero1-bf16]": "resuming in bf16",
    "distributed/test_stop_and_go.py::test_the_grid_in_bf16": "bf16 over four ranks",
    "distributed/test_stop_and_go.py::test_variants_agree": "offload, shards and data workers in whole runs",
    "distributed/test_resharding.py": "continuing under another layout",
    "distributed/test_stage_layouts.py::test_traffic[bf16-4-curriculum1]": "traffic of stages' layouts on four ranks",
    "distributed/test_stage_layouts.py::test_traffic[fp32-4-curriculum1]": "traffic of stages' layouts on four ranks",
    "distributed/test_stage_layouts.py::test_traffic[bf16-2-curriculum0]": "traffic of stages' own layouts in bf16",
    "distributed/test_stage_layouts.py::test_memory[4-1-parallels1]": "memory by formula on four ranks",
    "distributed/test_zero.py::test_five_steps[tp2cp1dp2]": "ZeRO beside tensor ranks",
    "distributed/test_zero.py::test_five_steps[tp2cp2dp1]": "ZeRO beside tensor and context ranks",
    "distributed/test_zero.py::test_five_steps[tp2cp2dp1sp]": "ZeRO beside sequence parallelism",
    "distributed/test_traffic.py::test_bytes_of_a_step[tp2cp2dp1]": "traffic of four ranks",
    "distributed/test_traffic.py::test_bytes_of_a_step[tp2cp2dp1sp]": "traffic of sequence parallelism",
    "distributed/test_traffic.py::test_bytes_of_a_step[tp1cp2dp2]": "traffic of context and data ranks together",
    "distributed/test_shared_filters.py::test_every_zero_stage[tp2cp2dp1sp]": "shared filters on four ranks",
    "distributed/test_skipped.py::test_no_trace[tp2cp2dp1sp]": "skipped steps on four ranks",
    "distributed/test_segments.py::test_asked_to_stop[told0-10]": "a signal at other moments, to the other rank",
    "distributed/test_segments.py::test_asked_to_stop[told0-15]": "a signal at other moments, to the other rank",
    "distributed/test_segments.py::test_asked_to_stop[told1-15]": "a signal at other moments, to the other rank",
    "distributed/test_third_mixer.py::test_memory": "the memory formula of a mixer that is not ours",
    "distributed/test_finetuning.py::test_one_process_is_any_layout[single_label-zero0]": "fine-tuning without ZeRO",
    "distributed/test_finetuning.py::test_one_process_is_any_layout[single_label-zero2]": "fine-tuning under ZeRO 2",
    "distributed/test_finetuning.py::test_one_process_is_any_layout[single_label-sequence]": "pooling by tensor ranks",
    "distributed/test_finetuning.py::test_killed_and_resumed[frozen]": "resuming a frozen backbone without ZeRO",
    "distributed/test_finetuning.py::test_killed_and_resumed[adapters]": "resuming adapters under ZeRO 2",
    "distributed/test_finetuning.py::test_killed_and_resumed[adapters, zero3]": "resuming adapters under ZeRO 3",
    "distributed/test_mlflow_run.py": "one MLflow run over several processes' lives",
    "unit/tracking/test_mlflow_store.py": "several runs that create one MLflow store, and several people who share it",
    "distributed/test_console.py::test_submit_without_a_reader": "jobs submit as a whole program whose reader leaves",
    "unit/data/test_loader.py::test_a_worker_that_stops_after_it_has_read": "a data worker that stops at a bad moment",
    "distributed/test_bench_checkpoint.py": "the benchmark of checkpoints",
    "distributed/test_bench.py": "the benchmark of filters under context parallelism",
    "distributed/test_precision_warning.py": "the warning of slow bf16 comes from one rank alone",
    "distributed/test_parity_of_kernels.py": "kernels under tensor and context parallelism",
    "unit/ops/gpu/test_dense_compiled.py::test_compiles_within_limits": "registers of wide dense layers",
    "docs/test_readme.py::test_every_command": "a command of the README that has gone stale",
    "unit/test_cli.py::test_demo_and_evaluate": "the demo and evaluate as whole programs",
    "unit/plan/test_memory.py::test_beside_a_real_step[False-bf16]": "memory by formula in bf16",
    "unit/plan/test_memory.py::test_beside_a_real_step[True-fp32]": "memory by formula with activation checkpointing",
    "unit/plan/test_memory.py::test_beside_a_real_step[True-bf16]": "memory by formula with activation checkpointing",
    "unit/bench/gpu/test_dry_run.py::test_every_step": "plots and training in the measurement of a GPU",
    "unit/parallel/compat/test_measure.py": "the command that measures changes to libraries",
    "unit/doctor/test_report.py::test_doctor_passes_here": "doctor as a whole program",
    "unit/demo/test_speed.py": "the demo's probe of a real machine",
    "unit/demo/test_budget.py::test_this_machine_is_measured_and_the_choice_is_one_line": "the same, as it is said",
}
"""The beginning of a test's id, without `tests/` -> the faults that only it catches."""


def is_slow(node_id: str) -> bool:
    """Return whether a test is left to `make test-all`."""
    return any(matches(node_id, key) for key in SLOW)


def matches(node_id: str, key: str) -> bool:
    """Return whether an id is that of an entry, or of a case or a test in it."""
    name = node_id.removeprefix("tests/")
    return name == key or name.startswith((f"{key}::", f"{key}["))
