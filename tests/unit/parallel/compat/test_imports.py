"""The modules that imports of DeepSpeed and megatron-core leave out, which are there for who asks."""

import subprocess
import sys

import torch
from torch import Tensor

from hyena_dist.parallel.compat.imports import compiling_when_called

IMPORTS = """
import sys
import torch
import hyena_dist.train.run
from hyena_dist.parallel.compat.imports import import_deepspeed

compile = torch.compile
import_deepspeed()
assert torch.compile is compile
print(*sorted({"torch._dynamo", "torch._inductor", "mlflow", "matplotlib"} & set(sys.modules)))
import mlflow
"""


def test_a_rank_starts_without_compilers_and_mlflow() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_compiled_when_called() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def double(x: Tensor) -> Tensor:
        return x * 2

    compile_now = torch.compile
    with compiling_when_called():
        plain = torch.compile(double, backend=backend)

        @torch.compile(backend=backend)
        def triple(x: Tensor) -> Tensor:
            return x * 3

    assert torch.compile is compile_now
    assert plain.__name__ == "double"
    assert graphs == []
    for _ in range(2):
        assert plain(torch.ones(3)).tolist() == [2, 2, 2]
        assert triple(torch.ones(3)).tolist() == [3, 3, 3]
    assert len(graphs) == 2
