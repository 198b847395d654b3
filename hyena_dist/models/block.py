"""One layer: norm -> mixer -> add -> norm -> MLP -> add, the residual stream in the parameters' type (fp32).

Shapes: B batch, D d_model, R positions of this rank's residual stream.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.dropout import Dropout
from hyena_dist.models.mixers.base import mixer_class
from hyena_dist.ops import MLPWeights, gelu_mlp
from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.plain import is_plain


class MLP(nn.Module):
    """The MLP fc2(gelu(fc1(norm(x)))) with the tanh form of gelu; the norm belongs to the layer."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        self.mesh = mesh
        self.fc1 = ColumnLinear(config.d_model, config.inner_size, mesh=mesh, init=normal(std))
        self.fc2 = RowLinear(config.inner_size, config.d_model, mesh=mesh, init=normal(output_std))

    @property
    def adds_residual(self) -> bool:
        """Whether `forward` can return the sum with the residual stream."""
        return self.mesh.tensor.size() == 1 and is_plain(self.fc1, self.fc2)

    def forward(self, x: Tensor, norm: Norm, residual: bool = False) -> Tensor:
        """Return the MLP of norm(x): [R, B, D] in the parameters' type -> [R, B, D] in the compute type.

        Where `adds_residual`, one operator does it, and can add x as well if `residual` is set.
        """
        if is_plain(norm) and self.adds_residual:
            weights = MLPWeights(self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
            # Sequences first, as they lie in memory: positions are alike to an MLP.
            return gelu_mlp(x.transpose(0, 1), norm.as_op_input(), weights, residual).transpose(0, 1)
        y: Tensor = self.fc2(F.gelu(self.fc1(norm(x)), approximate="tanh"))
        return y


class Block(nn.Module):
    """Pre-norm residual layer `index` of the model, around the mixer that layer_pattern names."""

    def __init__(self, config: ModelConfig, index: int, mesh: Mesh, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.norm1 = Norm(config.d_model, eps=config.layer_norm_epsilon, mesh=mesh, dtype=compute_dtype)
        self.mixer: nn.Module = mixer_class(config.mixers[index])(config, mesh)
        self.norm2 = Norm(config.d_model, eps=config.layer_norm_epsilon, mesh=mesh, dtype=compute_dtype)
        self.mlp = MLP(config, mesh)
        self.dropout1 = Dropout(config.resid_dropout, 2 * index + 1, mesh)
        self.dropout2 = Dropout(config.resid_dropout, 2 * index + 2, mesh)

    def forward(self, residual: Tensor, dropout_seeds: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return the residual stream after the layer, [R, B, D] -> [R, B, D], both in the parameters' type."""
        for branch, norm, dropout in ((self.mixer, self.norm1, self.dropout1), (self.mlp, self.norm2, self.dropout2)):
            if branch.adds_residual and is_plain(norm) and not dropout.active:
                residual = branch(residual, norm, residual=True)
            else:
                residual = dropout(branch(residual, norm), dropout_seeds, residual)
        return residual
