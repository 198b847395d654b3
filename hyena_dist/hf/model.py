"""HyenaDNAModel: the backbone as transformers has it, under the -hf port's names.

Shapes: B batch, L positions, D d_model, V padded vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import can_return_tuple

from hyena_dist.errors import UserError
from hyena_dist.hf.config import HyenaDNAConfig
from hyena_dist.hf.layers import adapt
from hyena_dist.hf.padding import packing
from hyena_dist.models.block import Block
from hyena_dist.models.lm import Backbone, check_cast
from hyena_dist.models.mixers.filter import HyenaFilter, Modulation, PositionalFeatures, Sine
from hyena_dist.models.mixers.hyena import ShortFilter
from hyena_dist.models.token_ids import check_some, look_up
from hyena_dist.parallel.mesh import Mesh


class HyenaDNAPreTrainedModel(PreTrainedModel):
    """The base of the models: initialisation, types, recomputed activations."""

    config_class = HyenaDNAConfig
    config: HyenaDNAConfig
    base_model_prefix = "hyena"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012
    _keep_in_fp32_modules_strict = ["filter_fn"]  # noqa: RUF012

    @property
    def native_backbone(self) -> Backbone:
        """The embedding and the layers."""
        return cast(Backbone, self.base_model.backbone)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the token embedding, [B, L] -> [B, L, D]."""
        return cast(nn.Embedding, self.native_backbone.embeddings.word_embeddings)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        cast(Any, self.native_backbone.embeddings).word_embeddings = value

    def to(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Move or cast the model, as `nn.Module.to` does.

        Raises:
            UserError: a type in which it cannot compute.
        """
        check_cast(next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)), None))
        return super().to(*args, **kwargs)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers recompute their activations in the backward pass."""
        return self.native_backbone.activation_checkpointing

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        # The reentrant kind, which callers may ask for, drops the gradients of adapters on a frozen model in silence.
        self.native_backbone.activation_checkpointing = enable

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what a checkpoint did not have, as training does."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            # Products that the residual stream takes up are small at first.
            depth = 2 * self.config.n_layer if module in self._feeding_residual() else 1
            init.normal_(module.weight, std=std / math.sqrt(depth))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Sine):
            init.constant_(module.freq, self.config.activation_freq)
        elif isinstance(module, PositionalFeatures) and module.z is not None and module.t is not None:
            z, t = module.grid(0, module.l_max, torch.float32, module.z.device)
            init.copy_(module.z, z)
            init.copy_(module.t, t)
        elif isinstance(module, ShortFilter | HyenaFilter | Modulation):
            fresh = type(module)(self.config.architecture, Mesh())
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                init.copy_(tensor, getattr(fresh, name))

    def _feeding_residual(self) -> set[nn.Module]:
        layers = cast(list[Block], self.native_backbone.layers)
        return {layer.get_submodule(name) for layer in layers for name in ("mixer.out_proj", "mlp.fc2")}


class HyenaDNAModel(HyenaDNAPreTrainedModel):
    """HyenaDNA without a head.

    Example:
        >>> import torch
        >>> from hyena_dist.hf import HyenaDNAConfig, HyenaDNAModel
        >>> model = HyenaDNAModel(HyenaDNAConfig(d_model=8, n_layer=2, filter_order=16)).eval()
        >>> model(torch.tensor([[7, 8, 9, 10]])).last_hidden_state.shape
        torch.Size([1, 4, 8])
    """

    # The further names of a frequency that the sine layers of a filter share, as one module: save_pretrained leaves
    # them out.
    _tied_weights_keys = {r".*implicit_filter\.(?!1\.)\d+\.freq": "implicit_filter.1.freq"}  # noqa: RUF012

    def __init__(self, config: HyenaDNAConfig) -> None:
        super().__init__(config)
        self.backbone = adapt(Backbone(config.architecture, Mesh(), torch.get_default_dtype()))
        self.post_init()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return nothing: what is one module needs no tying when it has been loaded."""
        return {}

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Return hidden states, zeros where there is padding.

        Args:
            input_ids: token ids of any integer type, [B, L].
            attention_mask: 1 for each token and 0 for padding, which may be on any side and counts as absent, [B, L].
            inputs_embeds: [B, L, D], instead of ids.
            output_hidden_states: whether to return n_layer + 1 states: the embeddings, those after each layer but the
                last, and `last_hidden_state`, which is behind the final norm.
            kwargs: `return_dict`, and what transformers gives every model and this one has no use for.

        Raises:
            UserError: neither ids nor embeddings or both, no tokens, ids beyond the vocabulary, sequences beyond
                max_seq_len, or a mask of another shape.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("give either input_ids or inputs_embeds, and not both")
        inputs = inputs_embeds if input_ids is None else input_ids
        assert inputs is not None
        check_some(inputs, "token ids" if inputs_embeds is None else "embeddings")
        packed = packing(attention_mask, inputs.shape[:2])
        unpack: Callable[[Tensor], Tensor] = (lambda x: x) if packed is None else packed.unpack
        if packed is not None:
            inputs = packed.pack(inputs)
        if input_ids is not None:
            inputs = look_up(self.get_input_embeddings(), inputs.long())
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states: list[Tensor] | None = [] if output_hidden_states else None
        x = self.backbone(inputs, states=states)
        last = unpack(self.backbone.ln_f(x).transpose(0, 1))
        hidden = None if states is None else (*(unpack(state.transpose(0, 1)) for state in states), last)
        return BaseModelOutput(last_hidden_state=last, hidden_states=hidden)
