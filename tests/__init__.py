"""One thread a process, ranks and test workers alike, before anything imports torch."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DS_ACCELERATOR"] = "cpu"
