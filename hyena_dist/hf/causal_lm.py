"""HyenaDNAForCausalLM: next-token logits, their loss, and generation by transformers' own API.

Shapes: B batch, L positions, V padded vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils.generic import can_return_tuple

from hyena_dist.errors import UserError
from hyena_dist.hf.cache import DecoderCache, can_step
from hyena_dist.hf.config import HyenaDNAConfig
from hyena_dist.hf.model import HyenaDNAModel, HyenaDNAPreTrainedModel
from hyena_dist.hf.padding import next_tokens, packing


class HyenaDNAForCausalLM(HyenaDNAPreTrainedModel, GenerationMixin):
    """HyenaDNA with its language model head.

    Logits have the port's padded columns, which belong to no token: the loss gives them no probability, and `generate`
    does not choose them. A token that `generate` adds costs one exact step, not a forward pass over all, unless the
    batch is padded, adapters or hooks are in place, some layers are of attention, or `use_cache` is false.
    """

    _is_stateful = True  # a cache cannot go back, as assisted generation wants it to
    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.weight": "hyena.backbone.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: HyenaDNAConfig) -> None:
        super().__init__(config)
        architecture = config.architecture
        self.hyena = HyenaDNAModel(config)
        self.lm_head = nn.Linear(architecture.d_model, architecture.padded_vocab_size, bias=False)
        self.post_init()
        self.generation_config.suppress_tokens = list(range(architecture.vocab_size, architecture.padded_vocab_size))

    def get_output_embeddings(self) -> nn.Linear:
        """Return the head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the head."""
        self.lm_head = new_embeddings

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, is_main_process: bool = True, state_dict: Any = None, **kwargs: Any
    ) -> None:
        """Write the folder as every model of transformers does, with the head in it even where it is the embedding.

        The port's own code knows of no tied head, and would draw one at random.
        """
        state = dict(self.state_dict() if state_dict is None else state_dict)
        if "lm_head.weight" in state:
            state["lm_head.weight"] = state["lm_head.weight"].clone()
        super().save_pretrained(save_directory, is_main_process, state, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        num_items_in_batch: Tensor | int | None = None,
        cache: DecoderCache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Return logits, in the parameters' type, and with labels the loss.

        Args:
            input_ids: token ids of any integer type, [B, L].
            attention_mask: 1 for each token and 0 for padding, which counts as absent, [B, L].
            inputs_embeds: [B, L, D], instead of ids.
            labels: the tokens themselves, which are shifted here, or -100 where nothing is to be predicted, [B, L].
            output_hidden_states: whether to return n_layer + 1 states, as in HyenaDNAModel.
            logits_to_keep: give the logits of so many last positions alone; all if 0. The loss has all.
            num_items_in_batch: what the sum of losses is divided by, instead of the number of predicted tokens.
            cache: what `generate` made for itself; with it, input_ids are all tokens so far, and the logits those of
                the next one.
            kwargs: `return_dict`, and what transformers gives every model and this one has no use for.

        Raises:
            UserError: as in HyenaDNAModel.
        """
        if cache is not None and input_ids is not None:
            return CausalLMOutput(logits=cache.logits(input_ids)[:, None])
        outputs = self.hyena(input_ids, attention_mask, inputs_embeds, output_hidden_states, return_dict=True)
        hidden = outputs.last_hidden_state
        logits = self.lm_head(hidden if labels is not None else hidden[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            targets = next_tokens(labels, packing(attention_mask, labels.shape))
            loss = self._loss(logits, targets, num_items_in_batch)
            logits = logits[:, -logits_to_keep:]
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)

    def _loss(self, logits: Tensor, targets: Tensor, num_items: Tensor | int | None) -> Tensor:
        rows = logits[..., : self.config.vocab_size].flatten(0, 1)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        wanted = targets.flatten().long()
        if num_items is None:
            return F.cross_entropy(rows, wanted)
        return F.cross_entropy(rows, wanted, reduction="sum") / torch.as_tensor(num_items, device=rows.device)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what `forward` gets for the next token: all tokens so far, behind the prompt's embeddings if any."""
        kwargs |= {"attention_mask": attention_mask}
        if inputs_embeds is None:
            return kwargs | {"input_ids": input_ids}
        assert attention_mask is not None  # `generate` makes one
        new = input_ids[:, input_ids.shape[1] - attention_mask.shape[1] + inputs_embeds.shape[1] :]
        return kwargs | {"inputs_embeds": torch.cat((inputs_embeds, self.get_input_embeddings()(new)), 1)}

    def _prepare_cache_for_generation(  # type: ignore[override]
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        if max_cache_length > self.config.max_seq_len:
            raise UserError(
                f"a prompt and what follows would be {max_cache_length + 1} tokens, and the model's max_seq_len "
                f"{self.config.max_seq_len} allows one more than that; lower max_new_tokens"
            )
        mask = model_kwargs.get("attention_mask")
        padded = mask is not None and not bool(mask.all())
        wants_more = generation_config.output_hidden_states or model_kwargs.get("inputs_embeds") is not None
        if generation_config.use_cache and not padded and not wants_more and can_step(self):
            model_kwargs.setdefault("cache", DecoderCache(self, max_cache_length))
