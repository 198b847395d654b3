"""In-context learning as an Objective: a prompt, or all weights, are tuned until the model answers with letters."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.data.tokenizer import TOKENS
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.base import describe_mixers
from hyena_dist.models.published import load_weights, published_config, read_tensors
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.plan.flops import step_flops
from hyena_dist.tasks.in_context.answers import answer
from hyena_dist.tasks.in_context.build import language_model, weights_fingerprint
from hyena_dist.tasks.in_context.context_batches import ContextBatch, ContextReader
from hyena_dist.tasks.in_context.contexts import LETTERS, ContextWriter, check_classes, check_length, longest_context
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from hyena_dist.tasks.in_context.soft_prompt import SoftPrompt
from hyena_dist.tasks.learning import LabelLearning
from hyena_dist.train.checkpoint.keep import find_step
from hyena_dist.train.checkpoint.load import load_tensors
from hyena_dist.train.objective import Batch
from hyena_dist.train.pretraining import nll_sum
from hyena_dist.train.resume import ResumePoint

FILE = "in_context.json"
"""The name of the file in a checkpoint that says what its weights are for."""
VERSION = 1
"""Changes when a step would hold other contexts than before."""


class InContext(LabelLearning[ContextBatch]):
    """Learns which letter follows a context; the loss is the letter's negative log-likelihood among all tokens.

    Raises:
        UserError: also labels without letters, and contexts that are too long for the model or a stage.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if self.task.in_context is None:
            raise UserError(f"run {config.name} has no section task.in_context, which says how to ask; add one")
        self.settings = settings = self.task.in_context
        check_classes(self.data)
        check_length(self.data, settings, config.model.l_max // self.unit * self.unit, "the model's l_max")
        for stage in config.train.curriculum:
            check_length(self.data, settings, stage.seq_length, "seq_length of train.curriculum")
        labels = self.data.splits["train"].labels
        demonstrations = Demonstrations(labels, self.data.classes, settings.shots)
        self.writer = ContextWriter(self.data, settings, demonstrations, config.seed)
        self.length = -(-longest_context(self.data, settings) // self.unit) * self.unit
        """The positions of contexts that are evaluated."""

    @property
    def fingerprint(self) -> Any:
        """The hash of the labelled data, and the way in which contexts are drawn from it."""
        return {"labelled": self.data.fingerprint, "contexts": VERSION}

    def build_model(self, mesh: Mesh) -> nn.Module:
        """Build the pretrained model, with a prompt before it if that is what is tuned.

        Raises:
            UserError: a prompt, and tensor ranks that share the embedding.
        """
        model = language_model(self.config, mesh)
        settings = self.settings
        if settings.method != "soft_prompt":
            return model
        if mesh.tensor.size() > 1:
            raise UserError(
                f"task.in_context.method=soft_prompt puts its prompt on one tensor rank, and there are "
                f"{mesh.tensor.size()}; set parallel.tensor_model_parallel_size=1"
            )
        return SoftPrompt(model, settings.prompt_tokens, settings.prompt_dropout, settings.prompt_average)

    def load_model(self, checkpoint: Path, model: nn.Module, mesh: Mesh) -> None:
        """Copy the prompt, or all weights, of a checkpoint.

        Raises:
            UserError: the checkpoint is a prompt of other weights than `task.model` has now.
        """
        weights = checkpoint / "model.safetensors"
        if isinstance(model, HyenaDNA):
            load_weights(model, read_tensors(weights), source=weights)
            return
        if json.loads((checkpoint / FILE).read_text())["weights"] != weights_fingerprint(self.config):
            raise UserError(
                f"{checkpoint} is a prompt before other weights than {self.task.model} has now; name the checkpoint "
                f"that it was tuned before as model=..., or start anew with name=..."
            )
        load_tensors(weights, model, mesh)

    def model_files(self, model: nn.Module) -> Mapping[str, str]:
        """Return the letters of the classes, what a context consists of, and the config.json of a language model."""
        about = {
            "letters": dict(zip(self.data.classes, (TOKENS[token] for token in LETTERS), strict=False)),
            "settings": self.settings.model_dump(mode="json"),
            "model": self.task.model,
            "weights": weights_fingerprint(self.config),
        }
        files = {FILE: json.dumps(about, indent=2) + "\n"}
        if isinstance(model, HyenaDNA):
            files["config.json"] = json.dumps(published_config(model), indent=2) + "\n"
        return files

    def batches(
        self, point: ResumePoint, steps: range, mesh: Mesh
    ) -> AbstractContextManager[Iterable[Batch[ContextBatch]]]:
        """Return this rank's contexts of some steps, written ahead by a thread or by processes.

        Raises:
            UserError: nothing is to be tuned.
        """
        if self.settings.method == "few_shot":
            raise UserError(
                "task.in_context.method=few_shot tunes nothing, so there is no step to take; `hyena-dist finetune` "
                "evaluates it, and instruction tunes"
            )
        return self.read_ahead(ContextReader(self.reader(point, mesh), self.writer), steps)

    def loss(self, model: Callable[..., Any], micro_batch: ContextBatch, device: torch.device) -> Tensor:
        """Return the summed negative log-likelihood of the letters that are to be learned."""
        inputs, targets = (to_device(each, device) for each in (micro_batch.inputs, micro_batch.targets))
        return nll_sum(model, inputs.long(), targets, micro_batch.dropout_seeds)

    def step_flops(self, stage: StagePlan) -> float | None:
        """Return the FLOPs of a step by formula; None where the model stays as it is."""
        return step_flops(self.config, stage) if self.settings.method == "instruction" else None

    def outputs(self, split: str, model: nn.Module, alive: Callable[[], None]) -> Tensor:
        """Return the log-likelihood of each class's letter, for each example; loss and scores are among these alone."""
        assert isinstance(model, HyenaDNA | SoftPrompt)
        held_out = self.writer.held_out
        strands = [
            answer(
                model,
                lambda query, reverse=reverse: held_out(split, query, reverse, self.length),  # type: ignore[misc]
                len(self.data.splits[split]),
                classes=len(self.data.classes),
                vocab_size=self.config.model.vocab_size,
                mesh=model.mesh,
                batch_tokens=self.config.evaluation.micro_batch_tokens,
                alive=alive,
            )
            for reverse in (False, True)[: 1 + self.task.average_strands]
        ]
        return torch.stack(strands).mean(0)

    def describe(self, model: nn.Module, mesh: Mesh) -> Sequence[str]:
        """Return the data, the contexts, and what the model's mixers say of how they run."""
        config, settings = self.config, self.settings
        letters = ", ".join(f"{TOKENS[t]} {name}" for t, name in zip(LETTERS, self.data.classes, strict=False))
        tuned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        return [
            *self.describe_data(),
            f"contexts of {settings.soft_tokens} soft tokens and {settings.shots} demonstrations, up to "
            f"{longest_context(self.data, settings):,} positions; letters: {letters}",
            f"{self.task.model}, {config.model.num_parameters:,} parameters; {tuned:,} trained ({settings.method})",
            *describe_mixers(config.model, mesh.device, DTYPES[config.precision]),
        ]

    def enter_stage(self, model: nn.Module, stage: StagePlan) -> None:
        """Recompute activations or not, as the stage says."""
        recompute = stage.parallel.activation_checkpointing
        if isinstance(model, SoftPrompt):
            model.recompute_activations(recompute)
        elif isinstance(model, HyenaDNA):
            model.backbone.activation_checkpointing = recompute

    def accumulation(self, model: nn.Module, micro_batches: int, late_gradients: bool) -> AbstractContextManager[None]:
        """Evaluate filters that are trained once for all micro-batches, where gradients may come late."""
        if isinstance(model, HyenaDNA):
            return model.share_filters(micro_batches if late_gradients else 1)
        assert isinstance(model, SoftPrompt)
        model.begins_step = True
        return nullcontext()

    def model_at(self, step: int, mesh: Mesh) -> nn.Module:
        """Return the model of a checkpoint."""
        model = self.build_model(mesh)
        self.load_model(find_step(self.config.run_dir / "checkpoints", step), model, mesh)
        return model.to(mesh.device)
