"""The verb `hyena-dist probe`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.inference.arguments import add_model_arguments, model_options
from hyena_dist.inference.embed_cli import parse_layers
from hyena_dist.verbs import numbers, output_folder, positive, verb

_ABOUT = """
The model is frozen: each sequence becomes the mean of its hidden states over its bases (of pieces where it is longer
than the model's l_max), and logistic regression and gradient-boosted trees (XGBoost where it is installed, else
scikit-learn's) learn the labels from it; the same classifiers on frequencies of k-mers are the floor. Settings are
chosen by folds inside what is trained on. FOLDER gets report.md, probe.json, predictions in Parquet, and a t-SNE
picture coloured by label with its CSV.

data: a CSV, TSV, Parquet or FASTA file, or a folder of train.csv and test.csv; with --genome, intervals with a label.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    probe = verb(
        verbs,
        "probe",
        "what simple classifiers read from a frozen model's embeddings, beside k-mers",
        _probe,
        "hyena-dist probe labelled.csv --model runs/first --out probed\n"
        "  hyena-dist probe genes.csv --genome hg19.fa --label biotype --folds 5 --layers all --max-bases 4096 "
        "--model M --out probed\n" + _ABOUT,
    )
    probe.add_argument("data", type=Path, metavar="DATA", help="labelled sequences, or intervals with --genome")
    probe.add_argument("--test", type=Path, metavar="FILE", help="the test split, where DATA is a file of train alone")
    probe.add_argument("--genome", type=Path, metavar="FASTA", help="what intervals are of")
    probe.add_argument("--label", metavar="COLUMN", help="column of classes; told from the columns if not given")
    probe.add_argument("--out", type=output_folder, required=True, metavar="FOLDER", help="made if need be")
    add_model_arguments(probe)
    probe.add_argument(
        "--layers", type=parse_layers, default="-1", metavar="N,N", help="or all (default: -1, the last)"
    )
    probe.add_argument(
        "--strands", choices=("one", "both", "concat"), default="one", help="as embed has them (default: %(default)s)"
    )
    probe.add_argument("--max-bases", type=positive, metavar="N", help="read the first N bases of each sequence alone")
    probe.add_argument(
        "--kmers", type=numbers("--kmers", "4,5"), default=[5], metavar="N,N", help="words of the floor (default: 5)"
    )
    probe.add_argument(
        "--classifiers", type=lambda text: text.split(","), default="logistic,trees", help="default: %(default)s"
    )
    probe.add_argument("--folds", type=_folds, metavar="N", help="cross-validate over all splits together")
    probe.add_argument("--seed", type=int, default=0, metavar="N", help="draws folds and trees (default: 0)")


def _folds(text: str) -> int:
    """Return a number of folds.

    Raises:
        UserError: The text is no whole number from 2 on.
    """
    if not text.isdecimal() or int(text) < 2:
        raise UserError(f"--folds {text} is no number of folds; try 5")
    return int(text)


def _probe(args: argparse.Namespace) -> None:
    from hyena_dist.config.task_data import TaskData
    from hyena_dist.tasks.embeddings.run import Probe, probe

    where = {"train": str(args.data), "test": str(args.test)} if args.test else {"path": str(args.data)}
    data = TaskData(
        **where, genome=args.genome and str(args.genome), labels=(args.label,) if args.label else (), valid_fraction=0.1
    )
    given = model_options(args)
    options = Probe(
        args.layers,
        args.strands,
        args.max_bases,
        args.kmers,
        args.classifiers,
        args.folds,
        args.seed,
        given.pop("max_tokens_per_batch"),
    )
    probe(data, args.model, args.out, options, name=args.data.name, **given)
    print((args.out / "report.md").read_text())
    print(f"wrote {args.out}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")
