"""The state of an engine, whole on every rank, by DeepSpeed's own collectives: nothing here is shared with saving."""

from typing import Any

from torch import Tensor

from hyena_dist.parallel.compat.imports import import_deepspeed
from hyena_dist.parallel.engine.deepspeed import Engine
from tests.distributed.parity import whole_tensors


def whole_weights(engine: Engine) -> dict[str, Tensor]:
    """Every parameter and stored buffer."""
    utils, parameters = import_deepspeed().utils, dict(engine.model.named_parameters())
    held = dict(engine.model.state_dict())
    for name, parameter in parameters.items():
        held[name] = utils.safe_get_full_fp32_param(parameter) if engine.stage == 3 else parameter.detach()
    return whole_tensors(engine.model, held, engine.mesh)


def whole_moments(engine: Engine) -> dict[str, Tensor]:
    """Return 'exp_avg.<parameter>' and 'exp_avg_sq.<parameter>'; there must have been an update."""
    utils, found = import_deepspeed().utils, {}
    optimizer: Any = engine.engine.optimizer
    if engine.stage in (1, 2):  # DeepSpeed does so once, when the first of the parameter groups has been updated
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()
    for key in ("exp_avg", "exp_avg_sq"):
        held = {}
        for name, parameter in engine.model.named_parameters():
            if engine.stage == 0:
                held[name] = optimizer.state[parameter][key]
            else:
                held[name] = utils.safe_get_full_optimizer_state(parameter, key)
        found |= {f"{key}.{name}": t for name, t in whole_tensors(engine.model, held, engine.mesh).items()}
    return found


def whole_state(engine: Engine) -> dict[str, Tensor]:
    """All that a checkpoint holds."""
    return whole_weights(engine) | whole_moments(engine)
