"""DataConfig: what a run reads, and in what order."""

from typing import Annotated, Literal

from pydantic import Field

from hyena_dist.config.section import Section


class DataConfig(Section):
    """The data that a run reads, and the order in which it does."""

    path: str = Field(description="a store, or shards, made by `hyena-dist data`; shards may be at a URL")
    sampling: Literal["interval", "published", "uniform"] = Field(
        "interval",
        description="interval: a random window of each training interval, as often as it has bases; published: its "
        "first bases; uniform: any window without held-out bases",
    )
    species_weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="share of the samples by species, others are left out; by number of bases if not given"
    )
    reverse_complement: bool = Field(False, description="read half of the training windows from the other strand")
    max_n_fraction: float = Field(1.0, ge=0, le=1, description="leave out windows with a larger share of N")
    soft_mask_loss_weight: float = Field(
        1.0, ge=0, le=1, description="weight in the loss of lower-case bases (repeats); below 1 needs --soft-mask"
    )
    workers: int = Field(0, ge=0, description="processes that read; 0: a thread")
    prefetch: int = Field(2, ge=1, description="steps that the thread, or each process, reads ahead")
    timeout_s: float = Field(600.0, gt=0, description="a batch that takes longer to come ends the run")
