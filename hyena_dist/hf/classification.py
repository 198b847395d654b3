"""HyenaDNAForSequenceClassification: one output for each sequence, from its pooled hidden states.

Shapes: B batch, L positions, D d_model, N labels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from hyena_dist.hf.config import HyenaDNAConfig
from hyena_dist.hf.model import HyenaDNAModel, HyenaDNAPreTrainedModel


class HyenaDNAForSequenceClassification(HyenaDNAPreTrainedModel):
    """HyenaDNA with a linear layer on one vector for each sequence, for labels, sets of labels or numbers.

    `config.pooling` says what the vector is: the mean of the hidden states, the largest of each channel, the last, or
    the first, which in a causal model has seen one token. Padding takes no part.
    """

    def __init__(self, config: HyenaDNAConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 1
        self.hyena = HyenaDNAModel(config)
        self.score = nn.Linear(config.d_model, self.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits [B, N], and with labels the loss.

        Args:
            input_ids: token ids of any integer type, [B, L].
            attention_mask: 1 for each token and 0 for padding, which counts as absent, [B, L].
            inputs_embeds: [B, L, D], instead of ids.
            labels: by `config.problem_type`: integers [B] (single_label_classification), zeros and ones [B, N]
                (multi_label_classification), numbers [B, N] or [B] (regression). If it is not set, one label means
                regression, integers a single label, and anything else several.
            output_hidden_states: whether to return n_layer + 1 states, as in HyenaDNAModel.
            kwargs: `return_dict`, and what transformers gives every model and this one has no use for.

        Raises:
            UserError: as in HyenaDNAModel.
        """
        outputs = self.hyena(input_ids, attention_mask, inputs_embeds, output_hidden_states, return_dict=True)
        hidden = outputs.last_hidden_state
        kept = hidden.new_ones(hidden.shape[:2], dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        logits = self.score(pooled(hidden, kept, self.config.pooling))
        loss = None if labels is None else self._loss(logits, labels.to(logits.device))
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.problem_type is None:
            if self.num_labels == 1:
                self.config.problem_type = "regression"
            elif labels.is_floating_point():
                self.config.problem_type = "multi_label_classification"
            else:
                self.config.problem_type = "single_label_classification"
        rows = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.config.problem_type == "single_label_classification":
            return F.cross_entropy(rows, labels.view(-1).long())
        labels = labels.to(rows.dtype).view(rows.shape)
        if self.config.problem_type == "regression":
            return F.mse_loss(rows, labels)
        return F.binary_cross_entropy_with_logits(rows, labels)


def pooled(hidden: Tensor, kept: Tensor, how: str) -> Tensor:
    """Return one vector for each sequence, zeros for one without tokens: [B, L, D] -> [B, D].

    Args:
        hidden: zeros where there is padding.
        kept: where there is none, bool [B, L].
        how: mean, last, first or max.
    """
    if how == "mean":
        return hidden.sum(1) / kept.sum(1, keepdim=True).clamp(min=1).to(hidden.dtype)
    if how == "max":
        return hidden.masked_fill(~kept[..., None], float("-inf")).amax(1)
    numbers = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    at = numbers.masked_fill(~kept, -1).amax(1) if how == "last" else kept.int().argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), at]
