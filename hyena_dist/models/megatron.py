"""Hyena and attention mixers inside megatron-core's own TransformerLayer and GPTModel.

    model = GPTModel(**gpt_arguments(config))

is the HyenaDNA of a ModelConfig with Megatron's embedding, MLP, residual stream and loss, for Megatron's data
parallelism, recomputation and checkpoints. Tensor, sequence and context parallelism work, pipeline parallelism is not
built.

It differs from HyenaDNA in three things: padded vocabulary columns take probability in the loss, the residual stream
has the type params_dtype, and what dropout drops depends on the layout. Two things are left to the caller:

- A context rank is given its contiguous chunk of each sequence. Megatron's get_batch_on_this_cp_rank balances causal
  attention by dealing out two chunks from opposite ends, which these mixers would take for neighbours.
- Tensor ranks draw initial values from the same torch seed, as in Megatron's own training.

Shapes: B batch, D d_model, R positions of this rank's residual stream.
"""

import warnings
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.base import mixer_class, spared_from_16_bits
from hyena_dist.parallel.compat.imports import importing_megatron
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import Partition, partitions

with importing_megatron():
    from megatron.core import parallel_state
    from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory
    from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
    from megatron.core.transformer import ModuleSpec, TransformerConfig
    from megatron.core.transformer.mlp import MLP, MLPSubmodules
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
    from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
    from megatron.core.transformer.utils import ensure_metadata_has_dp_cp_group
    from megatron.core.utils import make_sharded_tensor_for_checkpoint, make_tp_sharded_tensor_for_checkpoint

NAMES = (
    ("backbone.embeddings.", "embedding."),
    ("backbone.layers.", "decoder.layers."),
    ("backbone.ln_f.", "decoder.final_layernorm."),
    (".norm1.", ".input_layernorm."),
    (".mixer.", ".self_attention.mixer."),
    (".norm2.", ".pre_mlp_layernorm."),
    (".mlp.fc", ".mlp.linear_fc"),
    ("lm_head.", "output_layer."),
)
"""Parts of a tensor's name in HyenaDNA, and what stands for them in GPTModel."""


def transformer_config(config: ModelConfig, **overrides: Any) -> TransformerConfig:
    """Return Megatron's configuration of a model, for the tensor and context sizes of the current parallel_state.

    Args:
        config: the architecture.
        overrides: fields of TransformerConfig, such as sequence_parallel, params_dtype, bf16 or recompute_granularity.
    """
    tensor = context = 1
    if parallel_state.is_initialized():
        tensor = parallel_state.get_tensor_model_parallel_world_size()
        context = parallel_state.get_context_parallel_world_size()
    fields: dict[str, Any] = {
        "num_layers": config.n_layer,
        "hidden_size": config.d_model,
        "ffn_hidden_size": config.inner_size,
        # Megatron wants a multiple of the tensor ranks even of mixers without heads.
        "num_attention_heads": config.mixer_units.get("model.num_attention_heads", tensor),
        "activation_func": partial(F.gelu, approximate="tanh"),
        "layernorm_epsilon": config.layer_norm_epsilon,
        "hidden_dropout": config.embed_dropout,  # of the embedding; layers get theirs from their spec
        "attention_dropout": 0.0,
        "init_method_std": config.initializer_range,  # Megatron scales it at layer outputs as we do
        "tensor_model_parallel_size": tensor,
        "context_parallel_size": context,
        "use_cpu_initialization": not torch.cuda.is_available(),
        # Megatron's spelling. Layers that differ cannot be stacked into one tensor of a checkpoint.
        "hetereogenous_dist_checkpoint": len(set(config.mixers)) > 1,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="full scope is deprecated")  # about a default of Megatron's own
        return TransformerConfig(**fields | overrides)


def hyena_layer_spec(config: ModelConfig, mixer: str) -> ModuleSpec:
    """Return the specification of one TransformerLayer around a mixer of ours.

    Args:
        config: the architecture.
        mixer: a letter of ModelConfig.layer_pattern.
    """
    linears = MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
    return ModuleSpec(
        TransformerLayer,
        params={"hidden_dropout": config.resid_dropout},
        submodules=TransformerLayerSubmodules(
            input_layernorm=LayerNorm,
            self_attention=ModuleSpec(MixerAsAttention, params={"model_config": config, "mixer": mixer}),
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=LayerNorm,
            mlp=ModuleSpec(MLP, submodules=linears),
            mlp_bda=get_bias_dropout_add,
        ),
    )


def hyena_block_spec(config: ModelConfig) -> TransformerBlockSubmodules:
    """Return GPTModel's transformer_layer_spec: all layers as layer_pattern has them, and the final norm."""
    return TransformerBlockSubmodules([hyena_layer_spec(config, letter) for letter in config.mixers], LayerNorm)


def gpt_arguments(config: ModelConfig, **overrides: Any) -> dict[str, Any]:
    """Return keyword arguments of GPTModel that make it the HyenaDNA of `config`; overrides are TransformerConfig's."""
    return {
        "config": transformer_config(config, **overrides),
        "transformer_layer_spec": hyena_block_spec(config),
        "vocab_size": config.padded_vocab_size,
        "max_sequence_length": config.l_max,
        "position_embedding_type": "none",
        "share_embeddings_and_output_weights": config.tie_embeddings,
    }


def gpt_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a HyenaDNA under GPTModel's names.

    The parts of a tensor rank are those of the same rank in GPTModel, so load whole weights into a HyenaDNA of the same
    layout first. Position grids that a published checkpoint brought along (`.pos_emb.z`) have no place in GPTModel.
    """
    for ours, theirs in NAMES:
        state = {name.replace(ours, theirs): value for name, value in state.items()}
    return state


def hyena_state_dict(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of a GPTModel under HyenaDNA's names, as the inverse of gpt_state_dict.

    The `_extra_state` that Megatron keeps for Transformer Engine is left out.
    """
    state = {name: value for name, value in state.items() if not name.endswith("._extra_state")}
    for ours, theirs in NAMES:
        state = {name.replace(theirs, ours): value for name, value in state.items()}
    return state


class LayerNorm(nn.LayerNorm):
    """A layer norm, [R, B, D] -> [R, B, D], that goes with sequence parallelism.

    Megatron's own needs Apex or Transformer Engine for that.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype, device=_device(config))
        for parameter in self.parameters():
            # Asks Megatron's finalize_model_grads to sum the gradient over the tensor ranks.
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]


class MixerAsAttention(nn.Module):
    """A mixer in the place of TransformerLayer's self-attention.

    Its parameters stay fp32 when the model is cast to a 16-bit type: the mixer casts what goes into matrix products
    itself, and evaluates filters in the type of its parameters.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        model_config: ModelConfig,
        mixer: str,
        pg_collection: ProcessGroupCollection | None = None,
        cp_comm_type: str | None = None,
    ) -> None:
        super().__init__()
        if layer_number > model_config.n_layer:
            raise UserError(
                f"layer {layer_number} of a model with n_layer {model_config.n_layer}: pipeline parallelism is not "
                f"built; set pipeline_model_parallel_size=1 and num_layers={model_config.n_layer}"
            )
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups()
        self.mesh = Mesh(tensor=groups.tp, context=groups.cp, sequence_parallel=config.sequence_parallel)
        self.mixer = mixer_class(mixer)(model_config, self.mesh)
        for parameter in self.mixer.parameters():
            # Hooks of ours have summed such gradients already; Megatron must not do it again.
            parameter.sequence_parallel = False  # type: ignore[attr-defined]
        self.to(_device(config))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        inference_context: Any = None,
        packed_seq_params: Any = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Return the mixer of the hidden states, [R, B, D] -> [R, B, D], and no bias that is left to add.

        Masks and rotary embeddings are ignored: mixers are causal.

        Raises:
            UserError: an inference context or packed sequences.
        """
        if inference_context is not None or packed_seq_params is not None:
            raise UserError(
                "Hyena layers take whole sequences: neither an inference_context nor packed_seq_params is built; "
                "call the model on unpacked sequences without them"
            )
        return self.mixer(hidden_states), None

    def _apply(self, fn: Any, recurse: bool = True) -> "MixerAsAttention":
        return super()._apply(spared_from_16_bits(fn), recurse)

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[tuple[int, int, int], ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return tensors for dist_checkpointing, which can be loaded with another number of tensor ranks.

        A tensor of n blocks of channels is stored with an axis of size n before the channels, as a rank's part is only
        contiguous within a block.
        """
        replicas = ensure_metadata_has_dp_cp_group(metadata)["dp_cp_group"]
        groups = {"tp_group": self.mesh.tensor, "dp_cp_group": replicas}
        held = partitions(self)
        sharded: dict[str, Any] = {}
        for name, tensor in self.state_dict(keep_vars=True).items():
            key = prefix + name
            partition = held.get(name)
            if partition is None:
                sharded[key] = make_sharded_tensor_for_checkpoint(tensor, key, sharded_offsets, **groups)
            else:
                sharded[key] = _sharded(tensor, key, partition, prepend_offsets=sharded_offsets, **groups)
        return sharded


def _sharded(tensor: Tensor, key: str, partition: Partition, **kwargs: Any) -> Any:
    """Return Megatron's description of this rank's part of a tensor."""
    dim = partition.dim % tensor.dim()
    if partition.blocks == 1:
        return make_tp_sharded_tensor_for_checkpoint(tensor, key, dim, **kwargs)

    def build(key: str, part: Tensor, replica_id: Any, flattened_range: None) -> Any:
        blocks = part.unflatten(dim, (partition.blocks, -1))
        return make_tp_sharded_tensor_for_checkpoint(blocks, key, dim + 1, replica_id, **kwargs)

    replica_id = (0, 0, kwargs["dp_cp_group"].rank())
    return ShardedTensorFactory(key, tensor, build, lambda blocks: blocks.flatten(dim, dim + 1), replica_id)


def _device(config: TransformerConfig) -> torch.device:
    """Return the device on which Megatron puts new parameters."""
    return torch.device("cpu") if config.use_cpu_initialization else torch.device("cuda", torch.cuda.current_device())
