"""The verb `hyena-dist predict`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import output_file, positive, verb

_ABOUT = """
columns: name; score/CLASS, the probability of each class or label, or the number of each target; label is empty. Of
labels of bases there is a row for each base, with its position.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    predict = verb(
        verbs,
        "predict",
        "what a fine-tuned model says of new sequences",
        _predict,
        "hyena-dist predict genes.fa.gz --model runs/promoters --out genes.parquet\n"
        "  hyena-dist predict peaks.bed --genome hg38.fa --model runs/promoters --out peaks.parquet\n" + _ABOUT,
    )
    predict.add_argument("sequences", type=Path, metavar="SEQUENCES", help="FASTA, BED (with --genome), CSV or TSV")
    predict.add_argument(
        "--model", type=Path, required=True, metavar="M", help="a run of finetune, whose best weights are taken"
    )
    predict.add_argument("--out", type=output_file, required=True, metavar="FILE", help="x.parquet")
    predict.add_argument("--genome", type=Path, metavar="FASTA", help="what the intervals of a BED file are of")
    predict.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    predict.add_argument(
        "--max-tokens-per-batch", type=positive, default=2**16, metavar="N", help="default: %(default)s"
    )


def _predict(args: argparse.Namespace) -> None:
    from hyena_dist.errors import UserError

    if args.out.suffix != ".parquet":
        raise UserError(f"--out {args.out} is no Parquet file, which predictions are; name it .parquet")
    from hyena_dist.tasks.classifier import load_classifier

    classifier = load_classifier(args.model, device=args.device)
    found = classifier.predict(args.sequences, args.genome, max_tokens_per_batch=args.max_tokens_per_batch)
    try:
        found.save(args.out)
    except OSError as error:
        raise UserError(f"cannot write {args.out}: {error.strerror}; free some space or choose another") from error
    print(f"wrote {args.out}: {len(found):,} sequences")
