"""The properties that all sections of a configuration have in common."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A frozen section without unknown keys, infinities or NaN, in which whole numbers may be written 5e6."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, serialize_by_alias=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _exponents(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML takes 5e6, without a dot, for text. pydantic makes floats of such text, but no integers.
        whole = cls.model_fields[str(info.field_name)].annotation in (int, int | None)
        if whole and isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE]\+?\d+", value):
            return float(value)
        return value
