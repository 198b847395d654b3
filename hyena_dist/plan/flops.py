"""Floating-point operations of an optimizer step, by formula: what a rate is divided by to give MFU.

Matrix products of M x K and K x N count 2 M N K, a real FFT of n points 2.5 n log2(n), pointwise work nothing, as in
ops/flops.py. Source of the use: PaLM (arXiv 2204.02311), appendix B.
"""

from hyena_dist.config.costs import Flops, product
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.plan.stage import ModelShape, shape_of, zero_of


def step_flops(config: RunConfig, stage: StagePlan, *, recomputation: bool = False) -> float:
    """Return the operations of an optimizer step in a stage, forward and backward, over all ranks together.

    Args:
        config: the run.
        stage: one of `config.stages(world_size)`.
        recomputation: also count what is computed more than once: layers under activation checkpointing, what
            operators make again in backward, filters that micro-batches do not share, and what tensor ranks repeat.
            MFU leaves it out.

    Returns:
        Operations. Filters count once for each data-parallel rank and step, since they depend on parameters alone.
    """
    shape = shape_of(config, stage)
    data = stage.data_parallel_size
    micro_batches = stage.gradient_accumulation_steps
    each = micro_batch(shape)
    filters = filter_evaluation(shape)
    needed = micro_batches * (each.forward + each.backward) + filters.forward + filters.backward
    if not recomputation:
        return data * needed
    checkpointing = stage.parallel.activation_checkpointing
    evaluations = zero_of(stage).filter_evaluations(micro_batches, activation_checkpointing=checkpointing)
    again = micro_batches * each.repeated + evaluations * filters.repeated
    again += (evaluations - 1) * (filters.forward + filters.backward)
    if checkpointing:
        again += micro_batches * (each.forward - head(shape).forward) + evaluations * filters.forward
    return data * (needed + again)


def micro_batch(shape: ModelShape) -> Flops:
    """Count the operations of a data-parallel rank's micro-batch on its tensor and context ranks, without filters."""
    total = head(shape)
    for record in shape.model.layers:
        total += record.flops(shape) + mlp(shape)
    return total


def filter_evaluation(shape: ModelShape) -> Flops:
    """Count the operations of one evaluation of the filters of all layers on the tensor and context ranks."""
    total = Flops(0, 0)
    for record in shape.model.layers:
        if record.filters:
            total += record.filters.flops(shape)
    return total


def mlp(shape: ModelShape) -> Flops:
    """Count both products of one layer's MLP; the fused operator makes the first again for a long stream."""
    weight = shape.model.d_model * shape.model.inner_size
    made_again = shape.tensor == 1 and not shape.keeps_all
    return product(shape.rows, weight, weight, repeated=weight if made_again else 0)


def head(shape: ModelShape) -> Flops:
    """Count the logits, padded columns included, which one operator on one tensor rank makes again in backward."""
    weight = shape.model.d_model * shape.model.padded_vocab_size
    return product(shape.rows, weight, repeated=weight if shape.tensor == 1 else 0)
