"""Imported once by the server that the tests' processes fork from: all that they would import, each by itself."""

import gc
import importlib
from contextlib import suppress

from hyena_dist.parallel.compat.imports import import_deepspeed, importing_megatron

MODULES = [
    "data_prep.build",
    "hyena_dist.inference.embed",
    "hyena_dist.inference.score",
    "hyena_dist.train.loop",
    "matplotlib.backends.backend_agg",
    "pytest",
    "torch._dynamo",  # the first optimizer of a process imports it, for a second
]
INSIDES = [
    "deepspeed.comm.mori",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.original_muon",
    "torch._subclasses.schema_check_mode",
    "torch.profiler._cupti_monitor",
]
"""What the first engine and the first step import; another version of DeepSpeed or torch may not have it."""

import_deepspeed()
with importing_megatron():
    for name in (*MODULES, "megatron.core.parallel_state", "megatron.core.tensor_parallel"):
        importlib.import_module(name)
    for name in INSIDES:
        with suppress(ImportError):
            importlib.import_module(name)
gc.collect()
gc.freeze()  # so that collections in a child neither visit nor copy all of this
