"""Tests of Triton kernels where there is no GPU: Triton's interpreter runs them on the CPU.

The interpreter has to be on before triton is first imported, and then holds for the whole process. A file of such tests
therefore starts pytest on itself in a process of its own, which alone collects the classes that test kernels. Beside a
GPU they run on it, in the process that is there. Such a file has, after `pytest.importorskip("triton")`,

    from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

    if RUNNABLE:
        from hyena_dist.ops.triton import idea

    test_in_the_interpreter = in_interpreter(__file__)

    class TestKernels:
        __test__ = RUNNABLE
"""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""The device of the tensors that kernels are given."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

RUNNABLE = DEVICE == "cuda" or INTERPRETED
"""Whether kernels run in this process; if not, importing them is of no use to it."""


def in_interpreter(file: str) -> Callable[[], None]:
    """Return the test that the other tests of this file pass in the interpreter; it is skipped where they run here."""

    @pytest.mark.skipif(RUNNABLE, reason="the kernels run in this process")
    def test_in_the_interpreter() -> None:
        # Without conftest: its fixtures are not used here and take long to import.
        command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", file]
        run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "passed" in run.stdout

    return test_in_the_interpreter


def _convert_scalars() -> None:
    """Let kernels use scalars as bounds of loops: Triton 3.6 calls int() on arrays [1], which NumPy 2.4 refuses."""
    from triton.runtime import interpreter

    patch_tensor = interpreter._patch_lang_tensor

    def patch(tensor: Any, *scope: Any) -> None:
        patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patch


if INTERPRETED:
    _convert_scalars()
