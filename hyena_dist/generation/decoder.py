"""A Hyena model that takes one token after another: the exact logits of a forward pass, in nearly linear time.

Shapes: B batch, D d_model, V padded vocabulary, N order, P positions of the prompt, K steps after it, C channels of all
long convolutions, n_layer (N - 1) D, G projections of all layers, n_layer (N + 1) D.
"""

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.generation.layer_weights import layer_weights, long_filters, short_filters
from hyena_dist.generation.online_conv import OnlineConv, online_numbers
from hyena_dist.generation.prefill import prefill
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops import NormInput

LEAST_ROWS = 4
"""Rows from which the products of CPUs round each row alike, however many there are."""


def memory_bytes(config: ModelConfig, batch: int, steps: int, dtype: torch.dtype = torch.float32) -> int:
    """Return the bytes that a decoder has for so many steps, beside the model's weights and the prompt's forward pass.

    That is, for each channel of a long convolution, about steps * (batch + 1) numbers: the filter, and one number of
    each sequence that is the sum of an output before its step and the input after it.

    Args:
        config: the model's.
        batch: sequences.
        steps: tokens after the prompt.
        dtype: the type of sums, fp32 unless the model is fp64.
    """
    channels = config.n_layer * (config.order - 1) * config.d_model
    recent = config.n_layer * (config.order + 1) * config.d_model * max(batch, LEAST_ROWS) * config.short_filter_order
    return (online_numbers(channels, batch, steps) + recent) * dtype.itemsize


class Decoder:
    """The state of B sequences that a model continues token by token.

    On a CPU, what a step gives for a sequence is the same to the bit whatever the others and B, as far as seen.

    Weights in another type than the compute type are copied: a model that changes needs another decoder. Dropout and
    hooks play no part. Convolutions are summed in fp32, or fp64 for a model in fp64, whatever the compute type.

    Args:
        model: Hyena layers alone, in one process.
        batch: B.
        max_length: the most tokens of a sequence, with its prompt; at most l_max.

    Raises:
        UserError: attention layers, a model spread over processes, or a length beyond l_max.
    """

    @torch.no_grad()
    def __init__(self, model: HyenaDNA, batch: int, max_length: int) -> None:
        if not 1 <= max_length <= model.config.l_max:
            raise UserError(
                f"max_length {max_length} is not from 1 to the model's l_max {model.config.l_max}; change it"
            )
        if batch < 1:
            raise UserError(f"a batch of {batch} sequences has nothing to continue; give at least 1")
        self.model = model
        self.batch = batch
        self.max_length = max_length
        self.length = 0
        """Tokens so far."""
        self.dtype = torch.promote_types(model.compute_dtype, torch.float32)
        """The type of short and long convolutions and their sums."""
        self._layers = layer_weights(model)
        self._taps, self._tap_bias = short_filters(model, self.dtype)
        self._embedding = model.backbone.embeddings.word_embeddings.weight
        self._norm = model.backbone.ln_f.as_op_input()
        self._head = (model.lm_head or model.backbone.embeddings.word_embeddings).weight.to(model.compute_dtype).t()
        self._rows = torch.arange(max(batch, LEAST_ROWS), device=self._embedding.device) % batch
        """Rows that are computed: some twice, if B is less than LEAST_ROWS."""
        self._recent: deque[Tensor] = deque(maxlen=len(self._taps) - 1)
        """The last projections of all layers, [len(rows), G] each, the oldest first."""
        self._conv: OnlineConv | None = None

    @torch.no_grad()
    def prefill(self, input_ids: Tensor) -> Tensor:
        """Take a prompt of P >= 1 tokens of each sequence, [B, P], and return the logits after it, [B, V].

        A single one, [1, P], is computed once for all sequences; the logits are then [1, V]. The prompt comes before
        the first step; sequences without one begin with a step.

        Raises:
            UserError: a prompt of another shape, or longer than max_length.
            RuntimeError: tokens came before.
        """
        if self.length:
            raise RuntimeError("a prompt comes before all else; make another decoder for other sequences")
        if input_ids.ndim != 2 or len(input_ids) not in (1, self.batch) or not input_ids.shape[1]:
            raise UserError(f"a prompt of shape {tuple(input_ids.shape)} is not [{self.batch}, P] with P from 1 on")
        self._count(input_ids.shape[1])
        found = prefill(self.model, input_ids, self.max_length - self.length, self.dtype)
        self._recent.extend(found.projections.expand(-1, self.batch, -1)[:, self._rows])
        self._conv = OnlineConv(found.kernels, self.batch, found.sums)
        return self._logits(found.hidden)

    @torch.no_grad()
    def step(self, input_ids: Tensor) -> Tensor:
        """Take the next token of each sequence, [B] of any integer type, and return the logits after it, [B, V].

        Raises:
            UserError: another number of tokens than B, or more of them than max_length.
        """
        if input_ids.shape != (self.batch,):
            raise UserError(f"tokens of shape {tuple(input_ids.shape)} are not one for each of {self.batch} sequences")
        self._count(1)
        conv = self._begin() if self._conv is None else self._conv
        d_model, order = self.model.config.d_model, self.model.config.order
        summed = self._tap_bias
        for taps, earlier in zip(self._taps, self._recent, strict=False):  # all but the last, which meet this token
            summed = torch.addcmul(summed, taps, earlier)
        summed = summed.expand(len(self._rows), -1).split((order + 1) * d_model, dim=1)
        present = self._taps[-1].split((order + 1) * d_model)
        pending = conv.pending if self.batch == len(self._rows) else conv.pending[self._rows]
        sums = zip(pending.split(d_model, dim=1), conv.kernels[0].split(d_model), strict=True)
        projections, inputs = [], []
        x = F.embedding(input_ids.long()[self._rows], self._embedding)
        for layer, short, taps in zip(self._layers, summed, present, strict=True):
            projected = torch.addmm(layer.in_proj.bias, _norm(x, layer.norm1), layer.in_proj.weight).to(self.dtype)
            projections.append(projected)
            *gates, v = torch.addcmul(short, taps, projected).split(d_model, dim=1)
            for gate in reversed(gates[1:]):
                earlier, at_lag_zero = next(sums)
                u = v * gate
                inputs.append(u)
                v = torch.addcmul(earlier, at_lag_zero, u)
            x = x + torch.addmm(layer.out_proj.bias, (v * gates[0]).to(self.model.compute_dtype), layer.out_proj.weight)
            hidden = torch.addmm(layer.fc1.bias, _norm(x, layer.norm2), layer.fc1.weight)
            x = x + torch.addmm(layer.fc2.bias, F.gelu(hidden, approximate="tanh"), layer.fc2.weight)
        self._recent.append(torch.cat(projections, dim=1))
        conv.push(torch.cat(inputs, dim=1)[: self.batch])
        return self._logits(x)[: self.batch]

    def reorder(self, index: Tensor) -> None:
        """Go on with these rows of the batch, int64 [B], which may repeat: as a beam search does."""
        self._recent.extend([projections[index][self._rows] for projections in self._recent])
        if self._conv is not None:
            self._conv.reorder(index)

    def _begin(self) -> OnlineConv:
        self._recent.extend(self._taps.new_zeros(len(self._taps) - 1, len(self._rows), len(self._tap_bias)))
        self._conv = OnlineConv(long_filters(self.model, self.max_length, self.dtype), self.batch)
        return self._conv

    def _count(self, tokens: int) -> None:
        if self.length + tokens > self.max_length:
            raise UserError(
                f"{self.length} tokens and {tokens} more are beyond the {self.max_length} that this decoder was made "
                f"for; make it with a larger max_length"
            )
        self.length += tokens

    def _logits(self, x: Tensor) -> Tensor:
        hidden = _norm(x, self._norm)
        return torch.mm(hidden.to(self.model.compute_dtype), self._head).to(hidden.dtype)


def _norm(x: Tensor, norm: NormInput) -> Tensor:
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps).to(norm.dtype)
