"""The parts of DeepSpeed that are used beyond its documentation, on real engines: a changed DeepSpeed fails here.

Each rank returns what is not as parallel/engine/private.py says, in sentences.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hyena_dist
from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.parallel.compat.imports import import_deepspeed
from hyena_dist.parallel.engine import private
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh, initialize
from tests.processes import run_ranks

PRESETS = ("zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")
OF_STAGES_1_AND_2 = (
    "single_partition_of_fp32_groups",
    "scaled_global_norm",
    "_hp_optimizer_states_linked",
    "_lazy_init_hp_params_optimizer_state",
)
OF_STAGE_3 = ("fp32_partitioned_groups_flat", "grad_position", "get_param_id", "_get_norm_groups")
OF_PARAMETERS = {1: ("_hp_mapping",), 2: ("_hp_mapping",), 3: ("ds_shape",)}
OF_MAPPINGS = ("lp_fragment_address", "get_hp_fragment_address", "param_group_index")


def engine_of(mesh: Mesh, preset: str) -> Engine:
    """Two parameter groups, and parameters that two ranks cannot share equally."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3))
    groups = [{"params": [p for p in model.parameters() if p.dim() == d]} for d in (1, 2)]
    read = read_preset(preset)
    return Engine(model, adamw(groups, read, lr=0.1), mesh, read, micro_batch_size=1, clip_grad=0.3)


def step(engine: Engine, norm_limit: float) -> tuple[float, bool]:
    engine.engine.set_gradient_accumulation_boundary(True)
    engine.engine.backward(engine.engine(torch.ones(1, 5)).square().sum())
    return engine.step(0.1, norm_limit)


def whole(engine: Engine) -> dict[str, Tensor]:
    """Every parameter, by DeepSpeed's documented function."""
    get = import_deepspeed().utils.safe_get_full_fp32_param
    return {name: get(p).clone() for name, p in engine.model.named_parameters()}


def missing(engine: Engine) -> Iterator[str]:
    zero: Any = engine.engine.optimizer
    for name in (*(OF_STAGE_3 if engine.stage == 3 else OF_STAGES_1_AND_2), "optimizer", "param_groups"):
        if not hasattr(zero, name):
            yield f"{type(zero).__name__} of stage {engine.stage} has no {name}"
    for parameter_name, parameter in engine.model.named_parameters():
        for name in OF_PARAMETERS[engine.stage]:
            if not hasattr(parameter, name):
                yield f"the parameter {parameter_name} of stage {engine.stage} has no {name}"
        mapping = getattr(parameter, "_hp_mapping", None)
        for name in OF_MAPPINGS if mapping is not None else ():
            if not hasattr(mapping, name):
                yield f"_hp_mapping of a parameter of stage {engine.stage} has no {name}"


def shards_that_are_wrong(engine: Engine) -> Iterator[str]:
    """The ranks' shards are every parameter, each element once."""
    zero, ranks = engine.engine.optimizer, engine.mesh.data_context
    expected = whole(engine)
    for name, parameter in engine.model.named_parameters():
        shard = private.shard_of(zero, engine.stage, parameter, ranks.rank())
        mine = (0, []) if shard is None else (shard.start, shard.flat[shard.offset :][: shard.size].tolist())
        found = torch.full((private.whole_shape(parameter).numel(),), torch.nan)
        count = 0
        for start, values in engine.mesh.world.gather_objects(mine):
            found[start : start + len(values)] = torch.tensor(values)
            count += len(values)
        if count != found.numel() or not torch.equal(found, expected[name].flatten()):
            yield f"the shards that stage {engine.stage} says it has of {name} are not {name}"
        if expected[name].shape != private.whole_shape(parameter):
            yield f"stage {engine.stage} gives {name} the shape {private.whole_shape(parameter)}"


def norms_that_are_wrong(engine: Engine) -> Iterator[str]:
    """A step asks for the norm once, by a method of its own, and updates nothing where that is infinite."""
    zero: Any = engine.engine.optimizer
    method = "_get_norm_groups" if engine.stage == 3 else "scaled_global_norm"
    calls, watched = [], getattr(zero, method)
    setattr(zero, method, lambda *args, **kwargs: calls.append(1) or watched(*args, **kwargs))
    before = whole(engine)
    norm, applied = step(engine, norm_limit=1e-6)
    after = whole(engine)
    if len(calls) != 1:
        yield f"step() of stage {engine.stage} calls {method} {len(calls)} times"
    if applied or not 1e-6 < norm < 100:
        yield f"{method} of stage {engine.stage} gives the norm {norm}"
    if any(not torch.equal(before[name], after[name]) for name in before):
        yield f"stage {engine.stage} updates parameters though {method} says that the norm is infinite"
    if not step(engine, norm_limit=100.0)[1] or any(torch.equal(before[n], p) for n, p in whole(engine).items()):
        yield f"stage {engine.stage} does not update after a step that was dropped"


def states_that_are_wrong(engine: Engine) -> Iterator[str]:
    """States of the inner optimizer are found by DeepSpeed's documented functions once they are linked."""
    zero: Any = engine.engine.optimizer
    optimizer = private.inner_optimizer(zero)
    if not isinstance(optimizer, torch.optim.AdamW):
        yield f"zero.optimizer of stage {engine.stage} is {type(optimizer).__name__}, not the optimizer it was given"
    for tensor in private.updated_tensors(zero, engine.stage):
        optimizer.state[tensor] = {"exp_avg": torch.full_like(tensor, 7.0), "exp_avg_sq": torch.zeros_like(tensor)}
    private.link_states(zero, engine.stage)
    if engine.stage in (1, 2) and zero._hp_optimizer_states_linked is not True:
        yield f"stage {engine.stage} does not set _hp_optimizer_states_linked"
    get = import_deepspeed().utils.safe_get_full_optimizer_state
    for name, parameter in engine.model.named_parameters():
        if not (get(parameter, "exp_avg") == 7.0).all():
            yield f"stage {engine.stage} does not find the linked exp_avg of {name}"


def extensions_that_are_wrong() -> Iterator[str]:
    asked = []

    class Answers(dict):
        def get(self, name: str, default: Any = None) -> Any:
            asked.append(name)
            return super().get(name, default)

    ops = import_deepspeed().ops
    ops.__compatible_ops__ = Answers(ops.__compatible_ops__)
    if import_module("deepspeed.comm.torch").build_shm_op() is not None or asked != ["deepspeed_shm_comm"]:
        yield f"shared-memory collectives are compiled though __compatible_ops__ forbids it (it was asked for {asked})"


def complaints() -> list[str]:
    mesh = initialize(ParallelConfig(), timeout_s=60)
    found = list(extensions_that_are_wrong())
    for preset in PRESETS:
        engine = engine_of(mesh, preset)
        gone = list(missing(engine))
        found += [f"{preset}: {text}" for text in gone]
        for check in (shards_that_are_wrong, norms_that_are_wrong, states_that_are_wrong) if not gone else ():
            found += [f"{preset}: {text}" for text in check(engine)]
    return found


def test_deepspeed_is_as_private_says() -> None:
    version = import_deepspeed().__version__
    for found in run_ranks(2, complaints):
        assert found == [], f"DeepSpeed {version} is not as hyena_dist/parallel/engine/private.py relies on"


PRIVATE = (*OF_STAGES_1_AND_2, *OF_STAGE_3, "_hp_mapping", "ds_shape", "ds_numel", "ds_tensor", "__compatible_ops__")


@pytest.mark.parametrize("name", PRIVATE)
def test_one_file_touches_it(name: str) -> None:
    package = Path(hyena_dist.__file__).parent
    touching = [path.relative_to(package) for path in package.rglob("*.py") if name in path.read_text()]
    assert set(touching) <= {Path("parallel/engine/private.py")}
