"""The verbs under `hyena-dist bench` that measure the use of a trained model."""

import argparse
from pathlib import Path

from hyena_dist.verbs import not_negative, parse_lengths, positive, verb


def add_use_benches(benches: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Add the sub-commands, and return those that can write a table."""
    generate = verb(
        benches,
        "generate",
        "time for a generated base, its error and its memory, beside full forward passes",
        _bench_generate,
        "hyena-dist bench generate --lengths 1024,16384 --out jobs/results\n"
        "  hyena-dist bench generate --lengths 4096 --prompt 100000 --order 3",
    )
    generate.add_argument("--lengths", default="1024,4096,16384", type=parse_lengths, metavar="N,N", help="%(default)s")
    generate.add_argument("--prompt", type=not_negative, default=0, metavar="N", help="bases before; %(default)s")
    generate.add_argument("--order", type=positive, default=2, metavar="N", help="default: %(default)s")
    generate.add_argument("--batch", type=positive, default=1, metavar="N", help="default: %(default)s")
    generate.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    generate.add_argument("--n-layer", type=positive, default=2, metavar="N", help="default: %(default)s")
    generate.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    embed = verb(
        benches,
        "embed",
        "time and memory of embedding one long sequence, beside the bare forward pass",
        _bench_embed,
        "hyena-dist bench embed --length 1000000 --out jobs/results",
    )
    embed.add_argument("--length", type=positive, default=1_000_000, metavar="N", help="default: %(default)s")
    embed.add_argument("--d-model", type=positive, default=256, metavar="N", help="default: %(default)s")
    embed.add_argument("--n-layer", type=positive, default=8, metavar="N", help="default: %(default)s")
    embed.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    variants = verb(
        benches,
        "variants",
        "what it saves to compute once what is before a variant",
        _bench_variants,
        "hyena-dist bench variants --window 1024 --out jobs/results",
    )
    variants.add_argument("--window", type=positive, default=1024, metavar="N", help="bases; default: %(default)s")
    variants.add_argument("--alternatives", type=parse_lengths, default="1,3", metavar="N,N", help="%(default)s")
    variants.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    variants.add_argument("--n-layer", type=positive, default=2, metavar="N", help="default: %(default)s")
    variants.add_argument("--order", type=positive, default=2, metavar="N", help="default: %(default)s")
    variants.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    variants.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    observed = verb(
        benches,
        "observed",
        "whether a model's scores tell observed SNVs from random ones, beside a Markov chain",
        _bench_observed,
        "hyena-dist bench observed calls.vcf.gz --genome hg38.fa --model runs/first --markov other.fa",
    )
    observed.add_argument("vcf", type=Path, metavar="VCF", help="variants of people")
    observed.add_argument("--genome", type=Path, required=True, metavar="FASTA", help="what they are of")
    observed.add_argument(
        "--model", type=Path, required=True, metavar="M", help="a run, checkpoint or published folder"
    )
    observed.add_argument("--markov", type=Path, required=True, metavar="FASTA", help="what the chain is counted on")
    observed.add_argument("--window", type=positive, default=256, metavar="N", help="bases; default: %(default)s")
    observed.add_argument("--count", type=positive, default=1000, metavar="N", help="of each; default: %(default)s")
    observed.add_argument("--modulation-shift", type=float, metavar="X", help="for published models: 0.05 or 0.0")
    return [generate, embed, variants]


def _bench_generate(args: argparse.Namespace) -> None:
    from hyena_dist.bench.generate import GenerateCase, bench_generate

    case = GenerateCase(args.d_model, args.n_layer, args.order, args.batch, args.prompt, args.device)
    bench_generate(args.lengths, case, args.out)


def _bench_embed(args: argparse.Namespace) -> None:
    from hyena_dist.bench.embed import EmbedCase, bench_embed

    bench_embed(EmbedCase(args.length, args.d_model, args.n_layer, args.device), args.out)


def _bench_variants(args: argparse.Namespace) -> None:
    from hyena_dist.bench.variants import VariantsCase, bench_variants

    positions = (0.25, 0.5, 0.75)
    case = VariantsCase(
        args.window,
        positions,
        tuple(args.alternatives),
        args.d_model,
        args.n_layer,
        args.order,
        args.device,
        args.repeats,
    )
    bench_variants(case, args.out)


def _bench_observed(args: argparse.Namespace) -> None:
    from hyena_dist.bench.observed import ObservedCase, bench_observed

    bench_observed(
        ObservedCase(args.vcf, args.genome, args.model, args.markov, args.window, args.count, args.modulation_shift)
    )
