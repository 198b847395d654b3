"""TaskConfig: what a model is fine-tuned for; a run without this section pretrains."""

from typing import Literal

from pydantic import Field, model_validator

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.config.section import Section
from hyena_dist.config.task_data import TaskData

SCRATCH = "scratch"
"""The name of the model that nothing has trained yet."""


class LoraConfig(Section):
    """The adapters of `tune: lora`: low-rank matrices beside the projections and the MLP of each layer."""

    rank: int = Field(8, gt=0)
    alpha: int = Field(16, gt=0, description="the adapter's output is multiplied by alpha / rank")


class PublishedFigure(Section):
    """The figure that others report of the task."""

    metric: str = Field(description="one of the report's metrics, such as accuracy")
    value: float = Field(description="as the metric has it, a share and not in percent")
    source: str


class TaskConfig(Section):
    """A task: labelled sequences, and how a model learns their labels."""

    data: TaskData
    model: str = Field(SCRATCH, description="a run, a checkpoint, a published or -hf folder; or scratch")
    pooling: Literal["mean", "last", "first", "max"] = Field(
        "mean", description="what the head sees of the hidden states: mean or max over A, C, G, T, or one position's"
    )
    tune: Literal["full", "frozen", "lora"] = Field(
        "full", description="what is trained beside the head: all, nothing, or adapters"
    )
    lora: LoraConfig = LoraConfig()
    in_context: InContextConfig | None = Field(
        None, description="answers in letters that follow the sequence, in place of a head"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: a class weighs in the loss as the inverse of its share of train"
    )
    reverse_complement: bool = Field(False, description="train on the other strand half of the time")
    average_strands: bool = Field(
        False, description="predictions are made from the mean of what the model gives for both strands"
    )
    epochs: float | None = Field(
        None, gt=0, description="passes over train, 10 if not given: becomes train.curriculum, which says it from then"
    )
    max_length: int | None = Field(
        None, gt=0, description="longer sequences are cut to the bases in their middle; none is cut if not given"
    )
    best_by: str | None = Field(
        None, description="metric of valid whose best weights make the predictions, such as loss; by kind if not given"
    )
    patience: int | None = Field(
        None, gt=0, description="evaluations without a better one after which training ends; never if not given"
    )

    report: bool = Field(True, description="write report.html and its pictures at the end, not summary.json alone")
    floors: tuple[str, ...] = Field(
        ("majority", "kmer"), description="simple methods beside the model in the report; also onehot, cnn"
    )
    published: PublishedFigure | None = None

    @model_validator(mode="after")
    def _adapters_are_used(self) -> "TaskConfig":
        if self.tune != "lora" and self.lora != LoraConfig():
            raise ValueError(f"task.lora is set and task.tune is {self.tune}; set task.tune=lora")
        return self

    @model_validator(mode="after")
    def _a_head_or_letters(self) -> "TaskConfig":
        of_heads = {name: type(self).model_fields[name].default for name in ("pooling", "tune", "class_weights")}
        changed = next((name for name, default in of_heads.items() if getattr(self, name) != default), None)
        if self.in_context is not None and changed:
            raise ValueError(
                f"task.{changed} is for a head, and task.in_context answers with letters; leave one of the two out"
            )
        return self
