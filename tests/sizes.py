"""The operators' sizes, changed for a test: small inputs then come in several pieces, or are made again."""

import pytest

from hyena_dist.system import op_sizes


def set_sizes(patch: pytest.MonkeyPatch, **sizes: int) -> None:
    """Give fields of the CPU's `Sizes` other values until the patch ends."""
    patch.setattr(op_sizes, "CPU", op_sizes.CPU._replace(**sizes))
