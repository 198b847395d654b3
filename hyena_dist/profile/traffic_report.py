"""`--profile comm`: what a step sent, per collective and group, beside what the formulas of plan/ say."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.plan.traffic import step_traffic
from hyena_dist.profile.traffic import TrafficCounter

_COLUMNS = ("step", "group", "collective", "calls", "bytes", "planned_bytes")


class TrafficReport:
    """Counts the traffic of optimizer steps: a context manager around each, then `report` for those that are logged.

    The file `communication.csv` in the run's folder gets every reported step.

    Args:
        config: the run.
        mesh: this rank's groups.
    """

    def __init__(self, config: RunConfig, mesh: Mesh) -> None:
        self.config = config
        self.mesh = mesh
        self.counter = TrafficCounter(mesh)
        self.path = config.run_dir / "communication.csv"

    def __enter__(self) -> None:
        self.counter.take()  # whatever evaluation or saving sent
        self.counter.__enter__()

    def __exit__(self, *error: object) -> None:
        self.counter.__exit__(*error)

    def report(self, step: int, stage: StagePlan) -> list[str]:
        """Return lines for people about what a rank sent in the last step, as a mean over ranks.

        Every rank must call this; all but the main process get no lines.
        """
        calls: defaultdict[tuple[str, str], float] = defaultdict(float)
        sent: defaultdict[tuple[str, str], float] = defaultdict(float)
        for account in self.mesh.world.gather_objects(self.counter.take()):
            for line in account:
                calls[line[:2]] += line.calls / self.mesh.world.size
                sent[line[:2]] += line.bytes / self.mesh.world.size
        if not self.mesh.world.is_main:
            return []
        planned: defaultdict[tuple[str, str], float] = defaultdict(float)
        for item in step_traffic(self.config, stage):
            planned[item[:2]] += item.bytes
        rows = [(step, *key, calls[key], sent[key], planned.get(key)) for key in sorted(sent | planned)]
        _append(self.path, rows)
        return [f"step {step:,} sent per rank:", *(_line(*row[1:]) for row in rows)]


def _line(group: str, collective: str, calls: float, sent: float, planned: float | None) -> str:
    beside = "no formula" if planned is None else f"{planned:>15,.0f} by formula"
    return f"  {group:>12} {collective:<14} {calls:>8,.1f} calls {sent:>15,.0f} bytes, {beside}"


def _append(path: Path, rows: Sequence[Sequence[object]]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([_COLUMNS, *rows] if new else rows)
