"""How long a run's phases take, what its ranks send, and where a rank that stands still is."""
