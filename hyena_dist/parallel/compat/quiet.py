"""Messages that libraries print on every rank and that tell a user nothing; one function for each.

`python -m hyena_dist.parallel.compat.measure` counts the lines that are printed without each: 1, 6, 2, 8 and 2 in
this order. With all of them there are none.
"""

import logging
import os
import warnings


def name_the_accelerator() -> None:
    """Tell DeepSpeed that it runs on a CPU: it finds out too, but prints a line that it looked for a GPU in vain."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")


def ignore_renamed_collectives() -> None:
    """Ignore that torch has new names for collectives that DeepSpeed calls by the old ones."""
    warnings.filterwarnings("ignore", message=".*is deprecated. Please use", category=FutureWarning)


def log_errors_only() -> None:
    """Keep DeepSpeed from printing, for each update that the Engine drops, that gradients overflow: they need not."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def ignore_missing_kernels() -> None:
    """Ignore, within `warnings.catch_warnings`, that Transformer Engine and Apex are not there: nothing uses them."""
    warnings.simplefilter("ignore")


def ignore_stream_order() -> None:
    """Ignore two lines of advice by megatron-core about the order of CUDA kernels, where there is no CUDA."""
    warnings.filterwarnings("ignore", message=".*CUDA_DEVICE_MAX_CONNECTIONS")
