"""A model under a DeepSpeed engine.

ZeRO shards over data x context ranks together: DeepSpeed is told that this group is the data-parallel one.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hyena_dist.config.deepspeed import compose, zero_traits
from hyena_dist.errors import UserError
from hyena_dist.parallel.compat.imports import compiling_when_called, import_deepspeed
from hyena_dist.parallel.engine import private
from hyena_dist.parallel.mesh import Mesh


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


def adamw(groups: list[dict[str, Any]], preset: dict[str, Any], **kwargs: Any) -> torch.optim.Optimizer:
    """Make the AdamW for a preset: DeepSpeed's CPU kernel where states are offloaded from a GPU, else torch's own.

    On a GPU that is torch's fused one, a kernel for each parameter group under ZeRO; it needs no compiler.

    Args:
        groups: parameter groups, as torch's optimizers take them.
        preset: from read_preset.
        kwargs: passed on to the optimizer.
    """
    if zero_traits(preset).offloads_optimizer and torch.cuda.is_available():
        import_deepspeed()
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **kwargs)
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, fused=on_gpu or None, **kwargs)


class Engine:
    """A model under DeepSpeed ZeRO.

    Args:
        model: the model as built for one device; its parameters are the same on every data-parallel rank.
        optimizer: updates the model's parameters; see `adamw`.
        mesh: this rank's groups.
        preset: the configuration that read_preset gives.
        micro_batch_size: sequences of a forward pass on this rank.
        clip_grad: largest global 2-norm of the gradient; 0 for no limit.
        enter: told when backward begins, and when the reduction of gradients that follows it does.

    Raises:
        UserError: DeepSpeed does not take the preset.
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
        enter: Callable[[Literal["backward", "reduce"]], object] = lambda phase: None,
    ) -> None:
        deepspeed = import_deepspeed()
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        zero = zero_traits(preset)
        self.mesh, self.clip_grad, self.stage = mesh, clip_grad, zero.stage
        self.late_gradients = zero.late_gradients
        self.config = compose(
            preset, micro_batch_size=micro_batch_size, data_context_size=mesh.data_context.size(), clip_grad=clip_grad
        )
        if zero.offloads_optimizer and not torch.cuda.is_available():
            # Offload on a CPU keeps torch's AdamW: DeepSpeed's kernel would be compiled for nothing.
            self.config["zero_force_ds_cpu_optimizer"] = False
        try:
            with compiling_when_called():
                self.engine, *_ = deepspeed.initialize(
                    model=model, optimizer=optimizer, config=self.config, mpu=_MeshForDeepSpeed(mesh)
                )
        except (ValueError, AssertionError, deepspeed.DeepSpeedConfigError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"DeepSpeed does not take what parallel.zero says ({said}); mend the JSON file") from error
        self.model = model
        self._enter = enter
        self._announce_reduction()
        self._norm, self._norm_limit = math.nan, math.inf
        if self.stage > 0:
            private.watch_norm(self.engine.optimizer, self.stage, self._allows)

    def accumulate(self, loss: Callable[[nn.Module], Tensor], *, scale: float, last: bool) -> Tensor:
        """Run forward and backward of one micro-batch.

        Args:
            loss: computes the summed loss, a number with gradient, by the model that it is given.
            scale: the summed loss is multiplied by this; 1 / (sum of the weights of the whole step's valid targets over
                all ranks) makes the step's gradient that of the mean loss, however the targets are spread.
            last: whether this is the step's last micro-batch, after which gradients are reduced.

        Returns:
            The summed loss, detached.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        loss_sum = loss(self.engine)
        self._enter("backward")
        # DeepSpeed averages gradients over the ranks that hold the same parameters; the sum is wanted.
        self.engine.backward(loss_sum * (scale * self.mesh.data_context.size()))
        if not last:
            self.engine.step()  # counts the micro-batch; updates nothing
        return loss_sum.detach()

    def step(self, lr: float, norm_limit: float = math.inf) -> tuple[float, bool]:
        """Clip and update with learning rate `lr`, unless the gradient is not finite or its norm is above a limit.

        Returns:
            (the gradient's 2-norm before clipping, whether there was an update). Gradients are gone either way.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        self._norm_limit = norm_limit
        if self.stage == 0:
            self._norm = float(self._clip())
            if not self._updates():
                self.model.zero_grad(set_to_none=True)  # AdamW passes over parameters without a gradient
        self.engine.step()
        return self._norm, self._updates()

    def _announce_reduction(self) -> None:
        """Tell when DeepSpeed reduces gradients after a backward pass; what hooks reduced within it is not told."""
        reduce = self.engine.allreduce_gradients

        def announced(*args: Any, **kwargs: Any) -> None:
            self._enter("reduce")
            reduce(*args, **kwargs)

        self.engine.allreduce_gradients = announced

    def _updates(self) -> bool:
        return math.isfinite(self._norm) and self._norm <= self._norm_limit

    def _allows(self, norm: float) -> bool:
        """Note the gradient's norm; returns whether the step may update parameters."""
        self._norm = norm
        return self._updates()

    def _clip(self) -> Tensor:
        """Clip by the norm over all parameters, and return it; each counts once, however many tensor ranks hold it."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        parts = [p for p in parameters if getattr(p, "tensor_model_parallel", False)]
        whole = [p for p in parameters if not getattr(p, "tensor_model_parallel", False)]
        squares = nn.utils.get_total_norm([p.grad for p in parts if p.grad is not None]) ** 2
        if self.mesh.tensor.size() > 1:
            dist.all_reduce(squares, group=self.mesh.tensor)
        norm = (squares + nn.utils.get_total_norm([p.grad for p in whole if p.grad is not None]) ** 2).sqrt()
        nn.utils.clip_grads_with_norm_(parameters, self.clip_grad or float("inf"), norm)
        return norm
