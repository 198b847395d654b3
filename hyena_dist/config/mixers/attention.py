"""The record of the attention mixer.

Symbols: B micro batch size, L sequence length, P context ranks, T tensor ranks, D d_model, s bytes of an activation.
"""

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.costs import Flops, Parameter, Shape, Traffic, linear, product
from hyena_dist.config.divisibility import nearest
from hyena_dist.config.mixers.record import Mixer


def attention_heads(model: Architecture) -> int:
    """Return the number of heads of an attention layer: num_attention_heads, or one for each 64 channels."""
    return model.num_attention_heads or max(1, model.d_model // 64)


def _parameters(model: Architecture) -> list[Parameter]:
    d = model.d_model
    return [*linear("Wqkv", d, 3 * d, column=True), *linear("out_proj", d, d, column=False)]


def _kept_bytes(shape: Shape) -> float:
    """Return the bytes of the normed input, of q, k, v as projected, rotated and exchanged, and of the result."""
    exchanged = 4 if shape.context > 1 else 0
    return shape.activation_bytes * (shape.stream + shape.stream / shape.tensor * (3 + 3 + exchanged + 2))


def _traffic(shape: Shape) -> list[Traffic]:
    """Return 4 B L D s (P - 1) / (T P^2) bytes: q, k, v out and the result back (DeepSpeed-Ulysses)."""
    p = shape.context
    units = shape.rows * shape.model.d_model / shape.tensor * shape.activation_bytes * (p - 1) / p**2
    return [Traffic("context", "all_to_all", "q, k, v and the result", 4 * units)]


def _flops(shape: Shape) -> Flops:
    """Count projections, and q k^T and its product with v over all L^2 pairs, though half of them are masked."""
    d = shape.model.d_model
    scores = product(shape.rows, d * shape.length, d * shape.length, repeated=d * shape.length)
    return product(shape.rows, 3 * d * d, d * d) + scores


def _units(model: Architecture) -> dict[str, int]:
    return {"model.num_attention_heads": attention_heads(model)}


def _problem(model: Architecture) -> str | None:
    d = model.d_model
    heads = attention_heads(model)
    if d % (2 * heads) == 0:
        return None
    fits = nearest(heads, [n for n in range(1, d // 2 + 1) if d % (2 * n) == 0])
    wider = f"d_model {-(-d // (2 * heads)) * 2 * heads} with num_attention_heads {heads}"
    return (
        f"d_model {d} does not split into {heads} attention heads of an even size (rotary positions come in pairs); "
        + (f"try num_attention_heads {fits}" if fits else f"try {wider}")
    )


ATTENTION = Mixer(
    letter="A",
    name="attention",
    module="hyena_dist.models.mixers.attention:AttentionMixer",
    parameters=_parameters,
    kept_bytes=_kept_bytes,
    traffic=_traffic,
    flops=_flops,
    units=_units,
    problem=_problem,
)
