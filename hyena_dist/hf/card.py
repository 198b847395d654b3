"""The model card of an exported folder: what the model is, what it was trained on, and how well it predicts."""

import json
from pathlib import Path
from typing import Any

import yaml

from hyena_dist.data.store.manifest import SPLITS, read_manifest
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published_config import PUBLISHED_SHIFT

_CARD = """---
license: other  # PLACEHOLDER: name the licence of the weights, which that of the data may restrict
library_name: transformers
pipeline_tag: text-generation
tags: [hyenadna, dna, genomics, long-context]
---
# {name}

HyenaDNA, a causal language model of DNA with one token for each nucleotide: {size}.{trained}

## Use

```python
import hyena_dist  # AutoModel and AutoTokenizer learn of HyenaDNA by it; no remote code
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
logits = model(**tokenizer("ACGTACGT", return_tensors="pt")).logits
prompt = tokenizer("ACGTACGT", add_special_tokens=False, return_tensors="pt")  # no [SEP], which would end it
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=20)[0]))
```

{shift}

## Data

{data}

## Held-out perplexity

{perplexity}

## Licence

PLACEHOLDER: name the licence of the weights and the terms of the data, here and in the first lines.
"""


def model_card(model: HyenaDNA, source: Path) -> str:
    """Return README.md of a model that was exported from `source`, with what run.yaml and summary.json there say."""
    run = _read(source / "run.yaml", yaml.safe_load)
    summary = _read(source / "summary.json", json.loads)
    return _CARD.format(
        name=run.get("name", source.resolve().name),
        size=_size(model),
        trained=" Trained with hyena-dist." if run else "",
        shift=_shift(model.config.modulation_shift),
        data=_data(run) if run else "PLACEHOLDER: what the model was trained on, and which part of it was held out.",
        perplexity=_perplexity(summary),
    )


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        return dict(parse(path.read_text()))
    except FileNotFoundError:
        return {}


def _size(model: HyenaDNA) -> str:
    config = model.config
    return (
        f"{model.num_parameters():,} parameters, {config.n_layer} layers of width {config.d_model}, order "
        f"{config.order}, sequences of up to {config.l_max:,} tokens"
    )


def _shift(shift: float) -> str:
    says = f'The shift of the filters\' decay is {shift:g} (`"shift"` in config.json).'
    if shift == PUBLISHED_SHIFT:
        return f"{says} The published -hf port and standalone code load these weights as well."
    return (
        f"{says} The published -hf port and standalone code know only {PUBLISHED_SHIFT:g} and would compute other "
        f"values from these weights."
    )


def _data(run: dict[str, Any]) -> str:
    data = run["data"]
    lines = [f"- Windows by `{data['sampling']}` sampling, lengths {_lengths(run)}"]
    if data["reverse_complement"]:
        lines[0] += ", half of them from the opposite strand"
    try:
        manifest = read_manifest(Path(data["path"]))
    except UserError:
        return "\n".join([*lines, "- PLACEHOLDER: the data, which were not at hand at the export"])
    sources = ", ".join(f"{source['name']} (SHA-256 {source['sha256'][:16]})" for source in manifest["sources"])
    lines.append(f"- Sources: {sources}")
    if manifest["species"]:
        lines.append(f"- Species: {', '.join(manifest['species'])}")
    lines.append(f"- {manifest['bases']:,} bases on {manifest['contigs']:,} contigs")
    for split in SPLITS:
        of_split = manifest["splits"][split]
        lines.append(f"- {split}: {of_split['bases']:,} bases in {of_split['regions']:,} regions")
    return "\n".join(lines)


def _lengths(run: dict[str, Any]) -> str:
    return ", ".join(f"{stage['seq_length']:,}" for stage in run["train"]["curriculum"])


def _perplexity(summary: dict[str, Any]) -> str:
    if not summary:
        return "PLACEHOLDER: perplexity by length, as `hyena-dist evaluate` prints it."
    rows = [f"| HyenaDNA, context {int(n):,} | {ppl:.4f} |" for n, ppl in summary["ppl_by_length"].items()]
    rows += [f"| Markov chain, order {order} | {ppl:.4f} |" for order, ppl in summary["markov_ppl"].items()]
    head = f"On the {summary['split']} split, after {summary['tokens']:,} tokens in {summary['steps']:,} steps:"
    return "\n".join([head, "", "| model | perplexity over A, C, G, T |", "|---|---|", *rows])
