"""One program for the minutes in which a GPU is at hand: it measures all that can be measured there, and its ratios.

`python -m hyena_dist.bench.gpu --out DIR` runs the steps that `plan.py` lists. Read it, then `run.py`, which shares out
the time and keeps what was found, `worker.py`, in which it is found, `steps/`, and `report.py`, which makes sense of
it. It needs torch, pydantic and megatron-core; what else is missing (triton, matplotlib, deepspeed) leaves out, in
words, what needs it.
"""
