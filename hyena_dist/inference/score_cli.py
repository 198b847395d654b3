"""The verb `hyena-dist score`, which imports what it needs when it runs."""

import argparse

from hyena_dist.inference.arguments import add_common_arguments, model_options, say_written
from hyena_dist.verbs import positive, verb

_ABOUT = """
columns: name, length, scored (bases that count, on all strands), log_likelihood (their sum in nats; of two strands the
mean), mean_log_likelihood, perplexity and bits_per_base; with --strands both, log_likelihood_forward and _reverse too.
The first base has nothing before it and is not scored, nor is an N; both are context for what follows. Where nothing
is scored, as in a sequence of N alone, there is no mean.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    score = verb(
        verbs,
        "score",
        "log-likelihoods of sequences, as a whole or of every base",
        _score,
        "hyena-dist score genes.fa.gz --model runs/first --out genes.csv\n"
        "  hyena-dist score peaks.bed --genome hg38.fa --model M --strands both --per-base --out peaks.parquet\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist score chr20.fa --model M --overlap 512 --out chr20.csv\n" + _ABOUT,
    )
    add_common_arguments(score, "x.csv, x.tsv or x.parquet")
    score.add_argument(
        "--strands", choices=("one", "both"), default="one", help="the given one, or both (default: %(default)s)"
    )
    score.add_argument("--per-base", action="store_true", help="every base as well, in Parquet")
    score.add_argument(
        "--overlap", type=positive, metavar="N", help="score longer sequences in windows that share N bases"
    )


def _score(args: argparse.Namespace) -> None:
    from hyena_dist.inference.score import score

    score(
        args.model,
        args.sequences,
        out=args.out,
        genome=args.genome,
        strands=args.strands,
        per_base=args.per_base,
        overlap=args.overlap,
        **model_options(args),
    )
    say_written([args.out])
