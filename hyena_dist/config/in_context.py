"""InContextConfig: how a language model is asked for the class of a sequence, without a head."""

from typing import Literal

from pydantic import Field, model_validator

from hyena_dist.config.section import Section


class InContextConfig(Section):
    """The contexts in which the model answers with a letter that stands for a class.

    A context is [soft prompt] [sequence, separator, letter of its class] x shots, sequence, separator.
    """

    method: Literal["soft_prompt", "instruction", "few_shot"] = Field(
        description="soft_prompt: tune embeddings before the sequence, and no weight of the model; instruction: tune "
        "all weights on contexts; few_shot: tune nothing"
    )
    prompt_tokens: int = Field(32, ge=1, le=32_768, description="embeddings that soft_prompt tunes")
    prompt_dropout: float = Field(0.1, ge=0, lt=1, description="of soft tokens, as published")
    prompt_average: float = Field(
        0.9, ge=0, lt=1, description="decay of the average over steps that soft_prompt is evaluated with, as published"
    )
    shots: int = Field(0, ge=0, description="demonstrations from train in each context")
    all_answers: bool = Field(False, description="learn the demonstrations' letters as well as the query's")
    separator: bool = Field(True, description="a token [SEP] between a sequence and its letter")

    @model_validator(mode="after")
    def _has_answers(self) -> "InContextConfig":
        if self.all_answers and not self.shots:
            raise ValueError("all_answers learns the letters of demonstrations, and shots is 0; set shots from 1 on")
        return self

    @property
    def soft_tokens(self) -> int:
        """The number of soft tokens before a context."""
        return self.prompt_tokens if self.method == "soft_prompt" else 0
