"""Lines that transformers and what it imports print, and that tell a user of our command line nothing."""

import os

import torch

from hyena_dist.parallel.compat.quiet import name_the_accelerator


def keep_transformers_quiet() -> None:
    """Print no bar for the one file that is written, and no word of DeepSpeed's of a GPU that it looked for in vain.

    To be called before transformers is imported, which imports DeepSpeed where that is installed.
    """
    if not torch.cuda.is_available():
        name_the_accelerator()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
