"""Means to find why a run is slow and where a rank stands still: phases, traces, FLOPs utilization, traffic, watchdog."""
