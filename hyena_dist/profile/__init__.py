"""Why a run is slow, and where a rank that stands still is: phases, traces, FLOPs utilization, traffic, watchdog."""
