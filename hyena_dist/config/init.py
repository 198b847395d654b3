"""InitConfig: the trained model that a pretraining run begins with, in place of weights drawn from the seed."""

from typing import Literal

from pydantic import Field

from hyena_dist.config.section import Section


class InitConfig(Section):
    """The model that a run begins with; its steps, samples and learning rate are counted anew, from 0."""

    model: str = Field(description="a run, a checkpoint, a published or -hf folder, or a file of weights")
    optimizer: Literal["fresh", "keep"] = Field(
        "fresh", description="keep: AdamW goes on with the moments and the count of updates of a checkpoint of ours"
    )
