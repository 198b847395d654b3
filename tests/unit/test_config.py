"""One tree says everything about a run: what it accepts, derives and refuses."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hyena_dist.config import ModelConfig, RunConfig
from hyena_dist.config_file import dump_config, load_config, parse_config
from hyena_dist.errors import UserError

TREE: dict[str, Any] = {
    "data": {"path": "store"},
    "train": {
        "curriculum": [{"seq_length": 64, "tokens": 1000}, {"seq_length": 256, "train_iters": 5}],
        "global_batch_size": 8,
    },
}


def run_file(folder: Path, tree: dict[str, Any] = TREE) -> Path:
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    return folder / "run.yaml"


def tree_with(**train: Any) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    tree["train"] |= train
    return tree


def config_with(**train: Any) -> RunConfig:
    return parse_config(tree_with(**train), "test")


def refusal(call: Any) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


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
        ("parallel.tensor_model_parallel_size=2", "are not built yet; set both to 1"),
        ("optimizer.min_lr=1", "optimizer.min_lr 1 is above optimizer.lr 0.0006; lower min_lr"),
        ("model.l_max=100", "seq_length 256 of stage 1 is longer than model.l_max 100; set model.l_max=256"),
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
            "parallel.context_parallel_size"]  # fmt: skip
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


def test_known_stages() -> None:
    first, second = config_with().stages(2)
    assert first._asdict() == {
        "number": 0, "seq_length": 64, "global_batch_size": 8, "micro_batch_size": 4,
        "gradient_accumulation_steps": 1, "data_parallel_size": 2, "first_step": 0, "end_step": 2, "first_token": 0,
    }  # fmt: skip
    assert (second.first_step, second.end_step, second.first_token) == (2, 7, 1024)
    assert second.tokens_per_step == 8 * 256
    assert second.tokens_at(7) == 1024 + 5 * 2048


@pytest.mark.parametrize(
    ("train", "world_size", "message"),
    [
        ({"global_batch_size": 64, "micro_batch_size": 3}, 8,
         "global_batch_size 64 is not a multiple of micro_batch_size 3 x data_parallel_size 8 = 24; try 72"),
        ({"global_batch_size": 3}, 2, "global_batch_size 3 is not a multiple of data_parallel_size 2; try 4"),
        ({"global_batch_size": None, "global_batch_tokens": 1000}, 1,
         "global_batch_tokens 1000 is not a multiple of seq_length 64 x data_parallel_size 1 = 64; try 1024"),
        ({"global_batch_size": None, "global_batch_tokens": 64 * 4}, 8,
         "global_batch_tokens 256 is not a multiple of seq_length 64 x data_parallel_size 8 = 512; try 2048"),
    ],
)  # fmt: skip
def test_known_arithmetic(train: dict[str, Any], world_size: int, message: str) -> None:
    assert refusal(lambda: config_with(**train).stages(world_size)) == message


sizes = st.integers(1, 12)
maybe_size = st.none() | sizes
curricula = st.lists(
    st.fixed_dictionaries(
        {"seq_length": st.integers(1, 40), "micro_batch_size": maybe_size},
        optional={},
    ).flatmap(
        lambda stage: st.sampled_from(["tokens", "train_iters"]).flatmap(
            lambda kind: st.integers(1, 3000 if kind == "tokens" else 20).map(lambda n: stage | {kind: n})
        )
    ),
    min_size=1,
    max_size=4,
)
batches = st.integers(1, 200).map(lambda n: {"global_batch_size": n}) | st.integers(1, 6000).map(
    lambda n: {"global_batch_size": None, "global_batch_tokens": n}
)
PATTERN = re.compile(r"(global_batch_\w+) (\d+) is not a multiple of (?:(.+) = )?(?:\w+ )?(\d+); try (\d+)")


@given(curricula, batches, maybe_size, st.integers(1, 3000), st.integers(1, 9))
def test_laws_of_stages(
    curriculum: list[dict[str, int]], batch: dict[str, int | None], micro: int | None, bound: int, world_size: int
) -> None:
    train = {"curriculum": curriculum, "micro_batch_size": micro, "micro_batch_tokens": bound, **batch}
    config = config_with(**train)
    error = ""
    try:
        stages = config.stages(world_size)
    except UserError as caught:
        error = str(caught)
    if error:
        # The arithmetic is right, and the value to try works.
        match = PATTERN.fullmatch(error)
        assert match is not None, error
        key, value, product, unit, suggestion = match.groups()
        assert int(value) == batch[key]
        assert int(value) % int(unit) != 0
        if product:
            assert math.prod(int(factor.split()[-1]) for factor in product.split(" x ")) == int(unit)
        assert int(suggestion) > int(value)
        stages = config_with(**train | {key: int(suggestion)}).stages(world_size)
        batch = batch | {key: int(suggestion)}
    step = token = 0
    for number, (stage, asked) in enumerate(zip(stages, curriculum, strict=True)):
        size = stage.global_batch_size
        assert (stage.number, stage.seq_length) == (number, asked["seq_length"])
        assert size == batch["global_batch_size"] or size * stage.seq_length == batch["global_batch_tokens"]
        assert stage.data_parallel_size == world_size
        assert size == stage.micro_batch_size * stage.gradient_accumulation_steps * world_size
        wanted = asked["micro_batch_size"] or micro
        assert (
            stage.micro_batch_size == wanted
            if wanted
            else stage.micro_batch_size * stage.seq_length <= max(bound, stage.seq_length)
        )
        # Budgets: exactly the steps, or the fewest steps that see the tokens.
        steps = stage.end_step - stage.first_step
        if "train_iters" in asked:
            assert steps == asked["train_iters"]
        else:
            assert (steps - 1) * stage.tokens_per_step < asked["tokens"] <= steps * stage.tokens_per_step
        # Steps and tokens go on where the stage before ended.
        assert (stage.first_step, stage.first_token) == (step, token)
        assert stage.tokens_at(stage.first_step) == token
        step, token = stage.end_step, stage.tokens_at(stage.end_step)
        assert token == stage.first_token + steps * size * stage.seq_length


def test_a_derived_micro_batch_is_the_largest_that_fits() -> None:
    stages = config_with(global_batch_size=24, micro_batch_tokens=64 * 5).stages(2)
    assert [s.micro_batch_size for s in stages] == [4, 1]
    assert [s.gradient_accumulation_steps for s in stages] == [3, 12]


def test_evaluation_lengths() -> None:
    assert config_with().evaluation_lengths == (64, 256)
    config = parse_config(TREE | {"evaluation": {"lengths": [300, 20, 300]}}, "test")
    assert config.evaluation_lengths == (20, 300)
