"""One tree says everything about a run: what it accepts, derives and refuses."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from hyena_dist.config.file import dump_config, load_config, parse_config
from hyena_dist.config.mixers.attention import attention_heads
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from tests.configs import TREE, config_with, refusal


def run_file(folder: Path, tree: dict[str, Any] = TREE) -> Path:
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    return folder / "run.yaml"


# --- reading


def test_overrides(tmp_path: Path) -> None:
    config = load_config(
        run_file(tmp_path),
        ["optimizer.lr=6e-4", "train.curriculum.1.train_iters=7", "model.d_model=16", "optimizer.betas=[0.8, 0.9]",
         "data.reverse_complement=true", "train.global_batch_size=null", "train.global_batch_tokens=4096",
         "tracking.uri=http://host:5000/?a=b", "name=a-1"],
    )  # fmt: skip
    assert config.optimizer.lr == 6e-4
    assert config.train.curriculum[1].train_iters == 7
    assert config.model.d_model == 16
    assert config.optimizer.betas == (0.8, 0.9)
    assert config.data.reverse_complement is True
    assert (config.train.global_batch_size, config.train.global_batch_tokens) == (None, 4096)
    assert config.tracking.uri == "http://host:5000/?a=b"
    assert config.run_dir == Path("runs/a-1")


def test_a_whole_section_or_list_can_be_replaced(tmp_path: Path) -> None:
    config = load_config(run_file(tmp_path), ["train.curriculum=[{seq_length: 32, tokens: 5}]", "model={d_model: 8}"])
    assert [s.seq_length for s in config.train.curriculum] == [32]
    assert config.model == ModelConfig(d_model=8)


@pytest.mark.parametrize("written", ["6e-4", "6E-4", "0.0006", "6.0e-4"])
def test_numbers_as_people_write_them(written: str, tmp_path: Path) -> None:
    # YAML 1.1 takes 6e-4, without a dot, for text.
    path = tmp_path / "run.yaml"
    path.write_text(f"""
optimizer: {{lr: {written}, lr_warmup_tokens: 1e4}}
data: {{path: store}}
train: {{global_batch_size: 8, curriculum: [{{seq_length: 64, tokens: 5e6}}]}}
""")
    config = load_config(path)
    assert config.optimizer.lr == 6e-4
    assert (config.optimizer.lr_warmup_tokens, config.train.curriculum[0].tokens) == (10_000, 5_000_000)
    assert type(config.train.curriculum[0].tokens) is int


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    assert load_config(run_file(tmp_path), ["name=1e5"]).name == "1e5"


def test_dump_and_load_are_inverse(tmp_path: Path) -> None:
    config = load_config(run_file(tmp_path), ["model.d_inner=20", "evaluation.lengths=[64,32]", "seed=3"])
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    assert yaml.safe_load(dump_config(config))["model"]["order"] == 2, "what was not given is written out"


def test_frozen() -> None:
    config = config_with()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.model.d_model = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("train.global_batchsize=4", "unknown key 'train.global_batchsize'; did you mean 'global_batch_size'?"),
        ("train.curriculum.0.seqlength=4", "unknown key 'train.curriculum.0.seqlength'; did you mean 'seq_length'?"),
        ("model.dmodel=4", "unknown key 'model.dmodel'; did you mean 'd_model'?"),
        ("qqq=4", "unknown key 'qqq'; known keys: name, output_dir, seed"),
        ("tracking.zz=4", "unknown key 'tracking.zz'; known keys: mlflow, uri"),
        ("model.d_model", "override 'model.d_model' is not key=value; write for example"),
        ("=4", "override '=4' is not key=value"),
        ("train.curriculum.2.seq_length=4", "'2' is not an index below 2"),
        ("train.curriculum.x.seq_length=4", "'x' is not an index below 2"),
        ("seed.x=4", "'x' is not valid"),
        ("train.global_batch_size.x=4", "'x' is below a plain value; check the dots"),
        ("data.path=[", "'[' is not a YAML value; quote or mend it"),
        ("train.curriculum=[]", "train.curriculum = [] is not valid: "),
        ("train.curriculum.0={}", "'train.curriculum.0.seq_length' is missing; add it to the file or pass"),
        ("train.curriculum.0={seq_length: 4}", "the stage of seq_length 4 needs either tokens or train_iters"),
        ("train.curriculum.0.train_iters=4", "the stage of seq_length 64 needs either tokens or train_iters, not both"),
        ("train.global_batch_tokens=4096", "train needs either global_batch_size or global_batch_tokens, not both"),
        ("train.global_batch_size=null", "train needs either global_batch_size or global_batch_tokens, not both"),
        ("data=null", "data = None is not valid"),
        ("name=../x", "name = '../x' is not valid"),
        ("name=123", "name = 123 is not valid: input should be a valid string"),
        ("model.emb_dim=4", "emb_dim 4 must be odd (1 + 2 x bands); try 5"),
        ("output_dir=s3://bucket/runs", "s3://bucket/runs is a URL, and output is written to this machine"),
        ("model.layer_pattern=HAH", "layer_pattern HAH names 3 layers, n_layer is 2; set n_layer=3 or give 2 letters"),
        ("model.layer_pattern=HX",
         "no mixer has the letter 'X' of model.layer_pattern; choose of H (Hyena), A (attention)"),
        ("model.layer_pattern=''", "model.layer_pattern = '' is not valid"),
        ("model={d_model: 96, layer_pattern: HA, num_attention_heads: 5}",
         "d_model 96 does not split into 5 attention heads of an even size (rotary positions come in pairs); "
         "try num_attention_heads 4 or 6"),
        ("model={d_model: 130, layer_pattern: HA}",
         "d_model 130 does not split into 2 attention heads of an even size (rotary positions come in pairs); "
         "try num_attention_heads 1 or 5"),
        ("model={d_model: 127, layer_pattern: AA, num_attention_heads: 3}",
         "come in pairs); try d_model 132 with num_attention_heads 3"),
        ("parallel.tensor_model_parallel_size=3",
         "run.yaml: tensor_model_parallel_size 3 does not divide model.d_model 128 (128 / 3 = 42.67); try 2 or 4"),
        ("parallel.context_parallel_size=3",
         "run.yaml: seq_length 64 of stage 1 is not a multiple of context_parallel_size 3; "
         "try 63 or 66, or context_parallel_size 2 or 4"),
        ("optimizer.min_lr=1", "optimizer.min_lr 1 is above optimizer.lr 0.0006; lower min_lr"),
        ("model.l_max=100", "seq_length 256 of stage 2 is longer than model.l_max 100; set model.l_max=256"),
        ("evaluation.lengths=[64,2000]", "seq_length 2000 of evaluation is longer than model.l_max 1026"),
        ("evaluation.lengths=[2000,64]", "seq_length 2000 of evaluation is longer than model.l_max 1026"),
        ("precision=fp16", "precision = 'fp16' is not valid: input should be 'fp32' or 'bf16'"),
    ],
)  # fmt: skip
def test_refusals(override: str, message: str, tmp_path: Path) -> None:
    if override == "seed.x=4":  # not in the file: the override makes a mapping where a number belongs
        message = "seed = {'x': 4} is not valid"
    assert message in refusal(lambda: load_config(run_file(tmp_path), [override]))


POSITIVE = ["model.d_model", "model.n_layer", "model.l_max", "model.layer_norm_epsilon", "train.micro_batch_size",
            "train.global_batch_size", "train.curriculum.0.seq_length", "train.curriculum.0.tokens", "train.keep_last",
            "train.log_interval", "optimizer.lr", "optimizer.eps", "data.prefetch", "evaluation.max_tokens",
            "parallel.context_parallel_size", "parallel.tensor_model_parallel_size", "model.num_attention_heads",
            "model.rotary_base"]  # fmt: skip
NOT_NEGATIVE = ["seed", "optimizer.min_lr", "optimizer.weight_decay", "optimizer.clip_grad", "train.save_interval",
                "optimizer.lr_warmup_tokens", "model.embed_dropout", "model.initializer_range"]  # fmt: skip


@pytest.mark.parametrize("key", POSITIVE + NOT_NEGATIVE)
def test_negative_and_zero_values(key: str, tmp_path: Path) -> None:
    bad = ["-1", ".nan", "-.inf", "text"] + ["0"] * (key in POSITIVE)
    for value in bad:
        assert f"{key} = " in refusal(lambda value=value: load_config(run_file(tmp_path), [f"{key}={value}"]))
    if key in NOT_NEGATIVE:
        load_config(run_file(tmp_path), [f"{key}=0"])


@pytest.mark.parametrize("override", ["optimizer.lr=.inf", "model.modulation_shift=.nan", "optimizer.betas=[1,0.9]",
                                      "optimizer.betas=[0.9]", "evaluation.lengths=[0]", "evaluation.lengths=[64,-1]",
                                      "seed=1.5", "train.global_batch_size=1e-3"])  # fmt: skip
def test_other_bad_values(override: str, tmp_path: Path) -> None:
    assert override.split("=")[0] in refusal(lambda: load_config(run_file(tmp_path), [override]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no run"),
        (b"- 1", "holds no run"),
        (b"a: [", "is not valid YAML"),
        (b"\xff\xfe\x00\x80", "is not valid YAML"),
        (b"data: {path: x}", "'train' is missing"),
        (b"data: !!python/object/apply:os.system [touch canary]", "is not valid YAML"),
    ],
)
def test_bad_files(content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "run.yaml")
    assert not (tmp_path / "canary").exists()


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot read the run file" in refusal(lambda: load_config(tmp_path / "absent.yaml"))
    assert "cannot read the run file" in refusal(lambda: load_config(tmp_path))


# --- derived sizes


def test_model_sizes() -> None:
    assert ModelConfig(d_model=48).inner_size == 192
    assert ModelConfig(d_model=48, d_inner=50).inner_size == 50
    for vocabulary, multiple, padded in ((12, 8, 16), (16, 8, 16), (12, 1, 12), (17, 8, 24)):
        assert ModelConfig(vocab_size=vocabulary, pad_vocab_size_multiple=multiple).padded_vocab_size == padded


def test_mixers() -> None:
    assert ModelConfig(n_layer=3).mixers == "HHH"
    assert ModelConfig(n_layer=3, layer_pattern="HAH").mixers == "HAH"
    assert ModelConfig(n_layer=1, layer_pattern="A").rotary_base == 10_000
    for d_model, heads in ((32, 1), (64, 1), (128, 2), (256, 4), (768, 12)):
        config = ModelConfig(d_model=d_model, layer_pattern="HA")
        assert attention_heads(config) == heads
        assert d_model // heads % 2 == 0
    assert attention_heads(ModelConfig(d_model=24, layer_pattern="AA", num_attention_heads=6)) == 6
    assert ModelConfig(d_model=7, num_attention_heads=2).mixers == "HH", "heads are of attention layers alone"


@pytest.mark.parametrize("pattern", ["HHHH", "AAAA", "HHAH"])
def test_num_parameters(pattern: str) -> None:
    """Tensor by tensor, as modules of the published model and of a Transformer have them."""
    d, inner, w, e, order, k, depth = 24, 40, 10, 7, 3, 5, 3
    linear = {"fc1": (d, inner), "fc2": (inner, d)}
    norms = {"norm1.weight": d, "norm1.bias": d, "norm2.weight": d, "norm2.bias": d}
    attention = {"Wqkv": (d, 3 * d), "out_proj": (d, d)}
    hyena = {"in_proj": (d, 4 * d), "out_proj": (d, d)}  # order 3: two gates, one between them, and the values
    hyena_rest = {"short_filter.weight": 4 * d * k, "short_filter.bias": 4 * d, "D": 2 * d}
    network = {"first": (e, w), "inner 1": (w, w), "inner 2": (w, w), "inner 3": (w, w)}
    network_rest = {"frequency": w, "last.weight": w * 2 * d}

    def count(linears: dict[str, tuple[int, int]], rest: dict[str, int]) -> int:
        return sum(n_in * n_out + n_out for n_in, n_out in linears.values()) + sum(rest.values())

    mixer = {"A": count(attention, {}), "H": count(hyena | network, hyena_rest | network_rest)}
    whole = 16 * d + 2 * d + sum(mixer[letter] + count(linear, norms) for letter in pattern)
    config = ModelConfig(
        d_model=d, d_inner=inner, filter_order=w, emb_dim=e, order=order, short_filter_order=k, num_inner_mlps=depth,
        n_layer=4, layer_pattern=pattern, num_attention_heads=3,
    )  # fmt: skip
    assert config.num_parameters == whole


def test_evaluation_lengths() -> None:
    assert config_with().evaluation_lengths == (64, 256)
    config = parse_config(TREE | {"evaluation": {"lengths": [300, 20, 300]}}, "test")
    assert config.evaluation_lengths == (20, 300)
