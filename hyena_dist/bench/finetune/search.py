"""The search for settings of each set, by valid and never by test: what to write into sets.yaml."""

from pathlib import Path
from typing import Any

from hyena_dist.bench.finetune.sets import FinetuneCase, load_sets
from hyena_dist.bench.record import record
from hyena_dist.tasks.points.plan import PointsConfig
from hyena_dist.tasks.points.run import run_points
from hyena_dist.tasks.points.summary import best_setting, read_points, summarize

COLUMNS = ("set", "way", "setting", "metric", "valid", "chosen")


def search_settings(case: FinetuneCase, out: Path | None) -> None:
    """Try the values of `search` on every set, pretrained and from scratch, and print what valid says of them.

    Raises:
        UserError: a set or file that there is not, or a run that failed.
    """
    rows: list[list[Any]] = []
    for each in load_sets(case):
        folder = case.runs / f"{each.name}-search"
        tried = [{key: value} for key, values in each.search.items() for value in values]
        for way, model in (("pretrained", case.pretrained), ("scratch", case.scratch)):
            config = PointsConfig(sweep=tuple(model | setting for setting in tried), at_once=case.at_once)
            settings = summarize(read_points(folder, run_points(each.tree, folder, config))[0])
            best = best_setting(settings, each.metric)
            for setting, values in zip(settings, tried, strict=True):
                text = ", ".join(f"{key}={value}" for key, value in values.items())
                value = setting.means[f"valid/{each.metric}"].value
                rows.append([each.name, way, text, each.metric, value, "yes" if setting is best else ""])
                mark = " (best by valid)" if setting is best else ""
                print(f"{each.name}, {way}, {text}: {each.metric} {value:.4f}{mark}", flush=True)
        if out is not None:
            record(out, "finetune-search", COLUMNS, rows, case._asdict())
