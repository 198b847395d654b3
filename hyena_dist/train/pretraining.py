"""Pretraining as an Objective: the next base, in nats, on windows of genomes; evaluated by held-out perplexity."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.batches import StepBatch, StepReader, inputs_and_targets
from hyena_dist.data.loader import Loader
from hyena_dist.data.sampling.coverage import target_coverage, training_coverage
from hyena_dist.data.sampling.train_windows import INTERVALS_VERSION
from hyena_dist.data.sampling.valid_starts import GenomeAxis, n_ranges
from hyena_dist.data.store import GenomeStore
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.base import describe_mixers
from hyena_dist.models.published import load_weights, published_config
from hyena_dist.models.weights_files import find_weights, read_tensors
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.plan.flops import step_flops
from hyena_dist.train.evaluation.perplexity import check_targets, evaluation_windows, perplexity
from hyena_dist.train.objective import Batch, Evaluation, Objective, RunRecord
from hyena_dist.train.report import write_report
from hyena_dist.train.resume import ResumePoint

UNEVEN = 1.05
"""How much more often than the mean a contig is read before a run says so."""


class TokenBatch(NamedTuple):
    """One micro-batch of windows: B sequences, of which this context rank holds S positions."""

    tokens: Tensor
    """Tokens, uint8 [B, S + 1]; the last S are the targets."""
    weights: Tensor | None
    """The weight of each target in the summed loss, float32 [B, S]; None if all are 1."""
    dropout_seeds: Sequence[int]
    """The seeds of dropout, [B], so that what is dropped depends on the samples, not on their rank or earlier draws."""


class Pretraining(Objective[TokenBatch]):
    """Next-token prediction with a HyenaDNA.

    Args:
        config: the run.

    Raises:
        UserError: no store, or a held-out split without windows of a length that is evaluated: what the last evaluation
            needs is looked for now, not after a week of training.
    """

    measure = "ppl"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.store = GenomeStore.open(config.data.path)
        self.lengths = config.evaluation_lengths
        for length in self.lengths:
            for tokens in (config.evaluation.max_tokens, config.evaluation.interval_max_tokens):
                windows = evaluation_windows(self.store, config.evaluation.split, length, tokens)
                check_targets(self.store, windows)

    @property
    def fingerprint(self) -> Any:
        """The hashes of the genome store and, unless that never changed, the way in which windows are sampled."""
        if self.config.data.sampling == "uniform":
            return self.store.fingerprint
        return {"store": self.store.fingerprint, "sampling": INTERVALS_VERSION}

    @property
    def scored(self) -> Mapping[str, Any]:
        """Split, context lengths and number of targets of the last evaluation."""
        settings = self.config.evaluation
        return {"split": settings.split, "lengths": list(self.lengths), "max_tokens": settings.max_tokens}

    def build_model(self, mesh: Mesh) -> HyenaDNA:
        """Build the language model, activations in the run's precision."""
        return HyenaDNA(self.config.model, mesh, DTYPES[self.config.precision])

    def load_model(self, checkpoint: Path, model: nn.Module, mesh: Mesh) -> None:
        """Copy the weights of a checkpoint or a published model, whose position grids are kept."""
        assert isinstance(model, HyenaDNA)
        weights = find_weights(checkpoint)
        load_weights(model, read_tensors(weights), source=weights)

    def model_files(self, model: nn.Module) -> Mapping[str, str]:
        """Return the config.json with which load_published reads a checkpoint."""
        assert isinstance(model, HyenaDNA)
        return {"config.json": json.dumps(published_config(model), indent=2) + "\n"}

    def batches(
        self, point: ResumePoint, steps: range, mesh: Mesh
    ) -> AbstractContextManager[Iterable[Batch[TokenBatch]]]:
        """Return this rank's windows of some steps, read ahead by a thread or by processes."""
        config = self.config
        read = StepReader(
            self.store,
            point.stages,
            config.data,
            seed=config.seed,
            rank=mesh.data.rank(),
            context=(mesh.context.rank(), mesh.context.size()),
        )
        loader = Loader(
            read,
            steps,
            workers=config.data.workers,
            prefetch=config.data.prefetch,
            timeout_s=config.data.timeout_s,
        )
        return self._batches(loader)

    def loss(self, model: Callable[..., Any], micro_batch: TokenBatch, device: torch.device) -> Tensor:
        """Return the summed negative log-likelihood of the targets that are A, C, G or T."""
        inputs, targets = inputs_and_targets(to_device(micro_batch.tokens, device))
        weights = None if micro_batch.weights is None else to_device(micro_batch.weights, device)
        return nll_sum(model, inputs, targets, micro_batch.dropout_seeds, weights)

    def measured(self, loss: float) -> float:
        """Return the perplexity."""
        return math.exp(min(loss, 700))

    def step_flops(self, stage: StagePlan) -> float:
        """Return the FLOPs of a step by formula, without what is computed again."""
        return step_flops(self.config, stage)

    def evaluate(
        self, model: nn.Module, mesh: Mesh, point: ResumePoint, *, step: int, final: bool, alive: Callable[[], None]
    ) -> Evaluation | None:
        """Score held-out windows: at every context length at the end, at the longest that suits in between."""
        assert isinstance(model, HyenaDNA)
        settings = self.config.evaluation
        lengths = self.lengths if final else interim_lengths(self.lengths, mesh, point)
        results = {}
        for length in lengths:
            tokens = settings.max_tokens if final else settings.interval_max_tokens
            results[length] = perplexity(
                model,
                self.store,
                evaluation_windows(self.store, settings.split, length, tokens),
                mesh,
                micro_batch_tokens=settings.micro_batch_tokens,
                report=lambda *_: alive(),
            )
        if not results:
            return None
        split = settings.split
        longest = results[max(results)]
        metrics = {f"valid/{split}/loss": longest.loss, f"valid/{split}/ppl": longest.ppl}
        return Evaluation(
            metrics=metrics | {f"valid/{split}/ppl_{length}": found.ppl for length, found in results.items()},
            lines=[f"{split} perplexity at context {length:,}: {found}" for length, found in results.items()],
            record={str(length): found.to_json() for length, found in results.items()},
        )

    def report(self, run: RunRecord) -> None:
        """Write the perplexities beside those of Markov chains, and the plots."""
        write_report(run, self.store)

    def describe(self, model: nn.Module, mesh: Mesh) -> Sequence[str]:
        """Return the size of the model, its data and what its mixers say of how they run."""
        config = self.config
        size = config.model
        return [
            f"{size.num_parameters:,} parameters, data {config.data.path} ({config.data.sampling})",
            *(self._coverage() if mesh.world.is_main else ()),
            *describe_mixers(size, mesh.device, DTYPES[config.precision]),
        ]

    def enter_stage(self, model: nn.Module, stage: StagePlan) -> None:
        """Recompute activations or not, as the stage says."""
        assert isinstance(model, HyenaDNA)
        model.backbone.activation_checkpointing = stage.parallel.activation_checkpointing

    def accumulation(self, model: nn.Module, micro_batches: int, late_gradients: bool) -> AbstractContextManager[None]:
        """Evaluate the filters once for all micro-batches where gradients may come late."""
        assert isinstance(model, HyenaDNA)
        return model.share_filters(micro_batches if late_gradients else 1)

    @contextmanager
    def _batches(self, loader: Loader[StepBatch]) -> Iterator[Iterable[Batch[TokenBatch]]]:
        with loader:
            yield map(self._batch, loader)

    def _batch(self, read: StepBatch) -> Batch[TokenBatch]:
        seed = self.config.seed
        size = read.tokens.shape[1]
        micro_batches = []
        for index, first in enumerate(read.first_samples):
            weights = None if read.weights is None else read.weights[index]
            seeds = [dropout_seed(seed, read.step, first + i) for i in range(size)]
            micro_batches.append(TokenBatch(read.tokens[index], weights, seeds))
        return Batch(read.stage, read.step, micro_batches, read.total_weight)

    def _coverage(self) -> list[str]:
        """Say what training and the last evaluation see of the genome, which short contigs fall out of."""
        data = self.config.data
        n = n_ranges(self.store, GenomeAxis(self.store)) if data.max_n_fraction < 1 else None
        lines = []
        for length in sorted({stage.seq_length for stage in self.config.train.curriculum}):
            reached, densest = training_coverage(self.store, length, data, n)
            uneven = f"; {densest}" if densest.times >= UNEVEN else ""
            lines.append(f"training windows of seq_length {length:,} reach {reached}{uneven}")
        settings = self.config.evaluation
        for length in self.lengths:
            windows = evaluation_windows(self.store, settings.split, length, settings.max_tokens)
            found = target_coverage(self.store, windows, settings.split)
            lines.append(f"evaluation ({settings.split}) at context {length:,} scores {found}")
        return lines


def interim_lengths(lengths: tuple[int, ...], mesh: Mesh, point: ResumePoint) -> tuple[int, ...]:
    """Return the longest context that suits these processes, if any; all of them suit those of the last segment.

    Args:
        lengths: the contexts that are evaluated, ascending.
        mesh: the ranks that share the work.
        point: says what these processes are made for.
    """
    if point.in_last_segment:
        return lengths[-1:]
    longest = max(stage.seq_length for stage in point.segment)
    unit = mesh.residual_shard[1]
    return tuple(n for n in lengths if n <= longest and n % unit == 0)[-1:]


def nll_sum(
    model: Callable[..., Any],
    inputs: Tensor,
    targets: Tensor,
    dropout_seeds: Sequence[int] | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the summed negative log-likelihood in nats, a number with gradient.

    Args:
        model: calls a HyenaDNA.
        inputs: tokens of this context rank's chunk, int64 [B, S].
        targets: the token that follows each input, int64 [B, S]; negative where nothing is to be predicted.
        dropout_seeds: the seeds of dropout, one per sample, [B].
        weights: the weight of each target, float32 [B, S]; all 1 if not given.
    """
    nll: Tensor = model(inputs, targets, dropout_seeds, skip_logits=True).nll
    return (nll if weights is None else nll * weights).sum()


def dropout_seed(*numbers: int) -> int:
    """Return the seed of dropout for a sample that these numbers tell from all others."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
