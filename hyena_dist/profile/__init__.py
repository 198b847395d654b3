"""Means to find why a run is slow or where a rank is stuck: phases, traces, FLOPs utilization, traffic, watchdog."""
