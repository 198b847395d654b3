"""The report that a finished run leaves for its reader: summary.json, two plots and a page of text."""

import json
from pathlib import Path
from typing import Any

from hyena_dist.data.store import GenomeStore
from hyena_dist.system.files import write_atomically
from hyena_dist.tracking import human, plot_ppl_by_length, plot_time, plot_training, read_metrics
from hyena_dist.train.checkpoint.format import latest
from hyena_dist.train.evaluation.perplexity import evaluation_windows, markov_perplexity
from hyena_dist.train.evaluation.scores import Perplexity
from hyena_dist.train.objective import RunRecord


def write_report(run: RunRecord, store: GenomeStore) -> dict[str, Any]:
    """Write summary.json and the plots of a pretraining run, log them as artifacts and print the comparison.

    Args:
        run: the run, finished and evaluated.
        store: the genome store that Markov chains are fitted on.

    Returns:
        The content of summary.json: valid_ppl (at the longest context), valid_ppl_interval, markov_ppl by order,
        ppl_by_length, tokens_per_second (median over the log lines), tokens, steps, checkpoint, plots, mlflow.
    """
    folder = run.folder
    config = run.config
    state = run.state
    assert state.evaluation is not None
    assert state.scored is not None
    by_length = {int(n): Perplexity.from_json(p) for n, p in state.evaluation.items()}
    longest = max(by_length)
    existing = _read_summary(folder)
    scored = {"data": store.fingerprint, **state.scored}
    markov = existing.get("markov_ppl") if existing.get("scored") == scored else None
    if markov is None:
        run.note("fitting Markov chains of order 0 to 8 on the training split ...")
        windows = evaluation_windows(store, config.evaluation.split, longest, config.evaluation.max_tokens)
        markov = markov_perplexity(store, windows)
    markov = {int(order): ppl for order, ppl in markov.items()}
    rows = read_metrics(folder / "metrics.jsonl")
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    plot_training(rows, plots / "training.png")
    plot_time(rows, plots / "time.png")
    plot_ppl_by_length({n: p[:3] for n, p in by_length.items()}, markov, plots / "ppl_by_length.png")
    rates = sorted(r["throughput/tokens_per_second"] for r in rows if "throughput/tokens_per_second" in r)
    best = by_length[longest]
    summary = {
        "name": config.name,
        "split": config.evaluation.split,
        "valid_ppl": best.ppl,
        "valid_ppl_interval": [best.to_json()["low"], best.to_json()["high"]],
        "markov_ppl": markov,
        "ppl_by_length": {n: p.ppl for n, p in by_length.items()},
        "tokens_per_second": rates[len(rates) // 2] if rates else None,
        "tokens": state.tokens,
        "steps": state.step,
        "checkpoint": str(latest(folder / "checkpoints")),
        "plots": [str(p) for p in sorted(plots.glob("*.png"))],
        "metrics": str(folder / "metrics.jsonl"),
        "mlflow": run.ui_command,
        "scored": scored,
    }
    write_atomically(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    for path in (folder / "summary.json", *sorted(plots.iterdir())):
        run.trackers.log_artifact(path, "plots" if path.parent == plots else "")
    for line in summary_lines(summary, by_length):
        run.note(line)
    return summary


def summary_lines(summary: dict[str, Any], by_length: dict[int, Perplexity]) -> list[str]:
    """Return the summary as lines of text."""
    model = summary["valid_ppl"]
    markov = summary["markov_ppl"]
    order = min(markov, key=lambda k: markov[k])
    verdict = "below every Markov chain" if model < markov[order] else f"NOT below the Markov chain of order {order}"
    width = 44
    lines = ["", f"{summary['name']}: held-out perplexity ({summary['split']} split, lower is better)", "-" * width]
    rows = [(f"Markov chain, order {k}", ppl) for k, ppl in sorted(markov.items())]
    rows += [(f"HyenaDNA, context {n:,}", p.ppl) for n, p in sorted(by_length.items())]
    lines += [f"{name:<32}{ppl:>12.4f}" for name, ppl in rows]
    lines += [
        "-" * width,
        f"HyenaDNA at its longest context: {by_length[max(by_length)]}, {verdict} "
        f"(best: order {order}, {markov[order]:.4f})",
        "",
        f"trained     {human(summary['tokens'])} tokens in {summary['steps']:,} steps"
        + (f", {human(summary['tokens_per_second'])} tokens/s" if summary["tokens_per_second"] else ""),
        f"checkpoint  {summary['checkpoint']}",
        f"plots       {'  '.join(summary['plots'])}",
        f"metrics     {summary['metrics']}",
    ]
    if summary["mlflow"]:
        lines.append(f"MLflow      {summary['mlflow']}")
    return lines


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return content
