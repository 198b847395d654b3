"""One layer: norm -> mixer -> add -> norm -> MLP -> add, the residual stream in the parameters' type (fp32).

Shapes: B batch, D d_model, R positions of this rank's residual stream.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.config import ModelConfig
from hyena_dist.models.attention import AttentionMixer
from hyena_dist.models.dropout import Dropout
from hyena_dist.models.hyena import HyenaMixer
from hyena_dist.models.tiling import over_positions
from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh

MIXERS: dict[str, Callable[[ModelConfig, Mesh], nn.Module]] = {"H": HyenaMixer, "A": AttentionMixer}
"""Letter of ModelConfig.layer_pattern -> mixer."""

MLP_TILE = 8192
"""Sequences x positions for which the MLP's hidden layer is in memory at a time."""


class MLP(nn.Module):
    """fc2(gelu(fc1(x))) with the tanh form of gelu."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        self.tile = MLP_TILE if mesh.tensor.size() == 1 else 0  # tensor ranks would talk once a tile, and once more
        self.fc1 = ColumnLinear(config.d_model, config.inner_size, mesh=mesh, init=normal(std))
        self.fc2 = RowLinear(config.inner_size, config.d_model, mesh=mesh, init=normal(output_std))

    def forward(self, x: Tensor) -> Tensor:
        """[R, B, D] -> [R, B, D]."""
        return over_positions(self._rows, x, self.tile) if self.tile else self._rows(x)

    def _rows(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return y


class Block(nn.Module):
    """Pre-norm residual layer `index` of the model, around the mixer that layer_pattern names."""

    def __init__(self, config: ModelConfig, index: int, mesh: Mesh, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.compute_dtype = compute_dtype
        self.norm1 = Norm(config.d_model, eps=config.layer_norm_epsilon, mesh=mesh)
        self.mixer = MIXERS[config.mixers[index]](config, mesh)
        self.norm2 = Norm(config.d_model, eps=config.layer_norm_epsilon, mesh=mesh)
        self.mlp = MLP(config, mesh)
        self.dropout1 = Dropout(config.resid_dropout, 2 * index + 1, mesh)
        self.dropout2 = Dropout(config.resid_dropout, 2 * index + 2, mesh)

    def forward(self, residual: Tensor, dropout_seeds: Sequence[int] | None = None) -> Tensor:
        """[R, B, D] -> [R, B, D], both in the parameters' type."""
        mixed = self.mixer(self.norm1(residual).to(self.compute_dtype))
        residual = residual + self.dropout1(mixed, dropout_seeds)
        return residual + self.dropout2(self.mlp(self.norm2(residual).to(self.compute_dtype)), dropout_seeds)
