"""`hyena-dist export --format hf`: a folder that AutoModel loads, complete with tokenizer and model card."""

from functools import partial
from pathlib import Path

from hyena_dist.hf.card import model_card
from hyena_dist.hf.convert import from_native
from hyena_dist.hf.tokenizer import HyenaDNATokenizer
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.train.export import export_with


def export_hf(source: Path, out: Path) -> None:
    """Write a model with its tokenizer and a model card, ready to push to a hub.

    Args:
        source: a run's folder, of which the newest checkpoint is taken, or whatever load_published takes.
        out: a folder that is new, empty or an earlier export.

    Raises:
        UserError: as in hyena_dist.train.export.export_with.
    """
    export_with(partial(_write, source), source, out)


def _write(source: Path, folder: Path, model: HyenaDNA) -> None:
    from_native(model).save_pretrained(folder)
    # Runs read lower case as upper case; the published models' tokenizer does not.
    any_case = (source / "run.yaml").is_file()
    HyenaDNATokenizer(any_case=any_case, model_max_length=model.config.l_max).save_pretrained(folder)
    (folder / "README.md").write_text(model_card(model, source))
    weights = folder / "model.safetensors"  # which safetensors makes for its owner alone
    weights.chmod((folder / "README.md").stat().st_mode)
