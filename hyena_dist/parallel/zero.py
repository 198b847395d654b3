"""The DeepSpeed engine, and the only place that imports deepspeed.

ZeRO shards over data x context ranks together: the adapter below answers "data parallel" with that group.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hyena_dist.parallel.deepspeed_config import compose, offloads_optimizer, zero_stage
from hyena_dist.parallel.mesh import Mesh


def late_gradients(preset: dict[str, Any]) -> bool:
    """Whether a parameter may get its gradient in the last micro-batch of a step alone.

    Not with stage 3 or offloading: DeepSpeed (0.19) adds the gradient of any micro-batch but the step's first to what
    it has for the parameter, which is the gradient of the step before if the first brought none.
    """
    return zero_stage(preset) < 3 and not offloads_optimizer(preset)


class _MeshForDeepSpeed:
    """The `mpu` object that DeepSpeed asks for its groups."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def get_model_parallel_rank(self) -> int:
        return self._mesh.tensor.rank()

    def get_model_parallel_world_size(self) -> int:
        return self._mesh.tensor.size()

    def get_model_parallel_group(self) -> Any:
        return self._mesh.tensor

    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_group = get_model_parallel_group

    def get_data_parallel_rank(self) -> int:
        return self._mesh.data_context.rank()

    def get_data_parallel_world_size(self) -> int:
        return self._mesh.data_context.size()

    def get_data_parallel_group(self) -> Any:
        return self._mesh.data_context


def import_deepspeed() -> Any:
    """DeepSpeed, quiet, and without compiling its shared-memory collectives (a minute of C++ for no gain on gloo)."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # DeepSpeed calls collectives by names that newer torch versions are about to drop.
    warnings.filterwarnings("ignore", message=".*is deprecated. Please use", category=FutureWarning)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def adamw(groups: list[dict[str, Any]], preset: dict[str, Any], **kwargs: Any) -> torch.optim.Optimizer:
    """AdamW for a preset: DeepSpeed's CPU kernel where states are offloaded from a GPU, torch's own otherwise."""
    if offloads_optimizer(preset) and torch.cuda.is_available():
        import_deepspeed()
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **kwargs)
    return torch.optim.AdamW(groups, **kwargs)


class Engine:
    """A model under DeepSpeed ZeRO.

    Args:
        model: as built for one device; its parameters are the same on every data-parallel rank.
        optimizer: over the model's parameters; see `adamw`.
        preset: from read_preset.
        clip_grad: largest global 2-norm of the gradient; 0 for no limit.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mesh: Mesh,
        preset: dict[str, Any],
        *,
        micro_batch_size: int,
        clip_grad: float,
    ) -> None:
        deepspeed = import_deepspeed()
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.mesh, self.clip_grad, self.stage = mesh, clip_grad, zero_stage(preset)
        self.late_gradients = late_gradients(preset)
        self.config = compose(
            preset, micro_batch_size=micro_batch_size, data_context_size=mesh.data_context.size(), clip_grad=clip_grad
        )
        if offloads_optimizer(preset) and not torch.cuda.is_available():
            # Offload on a CPU keeps torch's AdamW: DeepSpeed's kernel would be compiled for nothing.
            self.config["zero_force_ds_cpu_optimizer"] = False
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=self.config, mpu=_MeshForDeepSpeed(mesh)
        )
        self.model = model

    def accumulate(
        self,
        input_ids: Tensor,
        targets: Tensor,
        dropout_seeds: Sequence[int],
        *,
        weights: Tensor | None = None,
        scale: float,
        last: bool,
    ) -> Tensor:
        """Forward and backward of one micro-batch.

        Args:
            input_ids: [B, S] int64, this context rank's chunk.
            targets: [B, S] int64.
            dropout_seeds: one per sample.
            weights: [B, S] float32, of each target in the summed loss; all 1 if not given.
            scale: the summed loss is multiplied by this; 1 / (sum of the weights of the whole step's valid targets over
                all ranks) makes the step's gradient that of the mean loss, however the targets are spread.
            last: whether this is the step's last micro-batch, after which gradients are reduced.

        Returns:
            The summed loss, detached.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        nll: Tensor = self.engine(input_ids, targets, dropout_seeds, skip_logits=True).nll
        nll_sum = (nll if weights is None else nll * weights).sum()
        # DeepSpeed averages gradients over the ranks that hold the same parameters; the sum is wanted.
        self.engine.backward(nll_sum * (scale * self.mesh.data_context.size()))
        if not last:
            self.engine.step()  # counts the micro-batch; updates nothing
        return nll_sum.detach()

    def step(self, lr: float) -> float:
        """Clip and update with learning rate `lr`; returns the gradient's 2-norm before clipping."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        norm = self._clip() if self.stage == 0 else None
        self.engine.step()
        if norm is None:
            norm = self.engine.get_global_grad_norm()
        return float(norm) if norm is not None else float("nan")

    def _clip(self) -> Tensor:
        """Clip by the norm over all parameters, each counted once however many tensor ranks share or repeat it."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        parts = [p for p in parameters if getattr(p, "tensor_model_parallel", False)]
        whole = [p for p in parameters if not getattr(p, "tensor_model_parallel", False)]
        squares = nn.utils.get_total_norm([p.grad for p in parts if p.grad is not None]) ** 2
        if self.mesh.tensor.size() > 1:
            dist.all_reduce(squares, group=self.mesh.tensor)
        norm = (squares + nn.utils.get_total_norm([p.grad for p in whole if p.grad is not None]) ** 2).sqrt()
        nn.utils.clip_grads_with_norm_(parameters, self.clip_grad or float("inf"), norm)
        return norm
