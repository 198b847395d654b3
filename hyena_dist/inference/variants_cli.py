"""The verb `hyena-dist variants`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.inference.arguments import add_model_arguments, model_options, say_written
from hyena_dist.verbs import positive, verb

_ABOUT = """
score: the log-likelihood of a window with ALT minus that of the same window with REF, in nats: negative where the model
finds the alternative less likely. Both strands are averaged. An N is context and not scored.

windows: N bases, a share of them (--position) before the variant in the direction of reading, shifted where the contig
ends. Both windows begin at the same base and have as many bases: the flank behind an insertion is shorter, that behind
a deletion longer. The model is causal: what is before the variant tells how well ALT fits it, and what is behind is
predicted with ALT in its context.

files: x.vcf.gz is bgzipped and indexed; its records are those of the input with INFO fields HYENA_DELTA,
HYENA_DELTA_MEAN (of means over bases) and HYENA_SKIPPED. x.parquet has a row for each alternative: chrom, pos, id, ref,
alt, delta, delta_mean, delta_forward, delta_reverse, log_likelihood_ref, log_likelihood_alt, skipped.

not scored, by name: symbolic, breakend, overlapping_deletion (*), no_alternative (.), ambiguous_alternative,
ambiguous_reference, no_window (an allele too long for it, or nothing but N beside it), reference_mismatch (with
--ref-mismatch skip).

A VCF whose contig is a piece of a chromosome needs a FASTA of that piece under the same name:
  samtools faidx chr20.fa 20:1000001-2000000 | sed '1s/.*/>z/' > z.fa
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    variants = verb(
        verbs,
        "variants",
        "log-likelihood differences of the variants of a VCF file",
        _variants,
        "hyena-dist variants calls.vcf.gz --genome hg38.fa --model M --out scored.vcf.gz\n"
        "  hyena-dist variants calls.vcf.gz --genome hg38.fa --model M --region chr20:1-5000000 --out some.parquet\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist variants calls.vcf --genome hg38.fa --model M --out scored.vcf.gz "
        "--out scored.parquet\n" + _ABOUT,
    )
    variants.add_argument("variants", type=Path, metavar="VCF", help="plain, gzip or bgzip")
    variants.add_argument("--genome", type=Path, required=True, metavar="FASTA", help="what the variants are of")
    variants.add_argument(
        "--out",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="x.vcf, x.vcf.gz or x.parquet; repeat it for several",
    )
    add_model_arguments(variants)
    variants.add_argument(
        "--window", type=positive, metavar="N", help="bases (default: 1024, or what the model reads, if that is less)"
    )
    variants.add_argument(
        "--position",
        type=float,
        default=0.5,
        metavar="X",
        help="share of a window that is before the variant (default: %(default)s)",
    )
    variants.add_argument(
        "--strands", choices=("both", "one"), default="both", help="averaged, or the given one (default: %(default)s)"
    )
    variants.add_argument("--region", metavar="CONTIG:START-END", help="of an indexed VCF; both ends count, from 1")
    variants.add_argument(
        "--ref-mismatch",
        choices=("refuse", "skip"),
        default="refuse",
        help="what is done with a REF that is not the genome's (default: %(default)s)",
    )


def _variants(args: argparse.Namespace) -> None:
    from hyena_dist.inference.variants import score_variants

    score_variants(
        args.model,
        args.variants,
        args.genome,
        out=args.out,
        window=args.window,
        position=args.position,
        strands=args.strands,
        region=args.region,
        ref_mismatch=args.ref_mismatch,
        **model_options(args),
        say=print,
    )
    say_written(args.out)
