"""One layer: norm -> mixer -> add -> norm -> MLP -> add, the residual stream in the parameters' type (fp32)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.config import ModelConfig
from hyena_dist.models.hyena import HyenaMixer
from hyena_dist.parallel.linear import ColumnLinear, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh

MIXERS: dict[str, Callable[[ModelConfig, Mesh], nn.Module]] = {"hyena": HyenaMixer}


class MLP(nn.Module):
    """fc2(gelu(fc1(x))) with the tanh form of gelu."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        self.fc1 = ColumnLinear(config.d_model, config.inner_size, mesh=mesh, init=normal(std))
        self.fc2 = RowLinear(config.inner_size, config.d_model, mesh=mesh, init=normal(output_std))

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, D] -> [L, B, D]."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return y


class Block(nn.Module):
    """Pre-norm residual layer around any mixer of MIXERS."""

    def __init__(self, config: ModelConfig, mesh: Mesh, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.compute_dtype = compute_dtype
        self.norm1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mixer = MIXERS[config.mixer](config, mesh)
        self.norm2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config, mesh)
        self.dropout = nn.Dropout(config.resid_dropout)

    def forward(self, residual: Tensor) -> Tensor:
        """[L, B, D] -> [L, B, D], both in the parameters' type."""
        residual = residual + self.dropout(self.mixer(self.norm1(residual).to(self.compute_dtype)))
        return residual + self.dropout(self.mlp(self.norm2(residual).to(self.compute_dtype)))
