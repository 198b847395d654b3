"""What is refused before a run begins, and what the resolver makes of a section task.in_context."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.cli import main
from hyena_dist.config.run import RunConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.in_context.build import weights_fingerprint
from hyena_dist.tasks.in_context.objective import InContext
from hyena_dist.tasks.in_context.soft_prompt import SoftPrompt
from hyena_dist.tasks.objectives import objective_of
from hyena_dist.train.export import write_model
from tests.configs import refusal
from tests.unit.tasks.in_context.examples import tiny_model

Make = Callable[..., RunConfig]
LONG = {"d_model": 16, "n_layer": 2, "l_max": 160, "filter_order": 16, "embed_dropout": 0.1}


@pytest.mark.parametrize(
    ("method", "length", "kind"),
    [
        ({"method": "soft_prompt", "prompt_tokens": 20}, 20 + 49, SoftPrompt),
        ({"method": "instruction", "shots": 2}, 2 * 50 + 49, HyenaDNA),
    ],
)
def test_a_task_in_letters_is_as_long_as_its_contexts(
    method: dict[str, Any], length: int, kind: type[Any], make_task: Make
) -> None:
    config = make_task(task={"in_context": method}, architecture=LONG)
    assert [stage.seq_length for stage in config.train.curriculum] == [length]
    assert objective_of(config) is InContext
    assert isinstance(InContext(config).build_model(Mesh()), kind)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"method": "soft_prompt", "prompt_tokens": 112}, "and the model's l_max is 160; take at most 0 shots or 111"),
        ({"method": "instruction", "shots": 3}, "take at most 2 shots"),
        ({"method": "soft_prompt", "prompt_tokens": 0}, "greater than or equal to 1"),
        ({"method": "soft_prompt", "prompt_tokens": 40_000}, "less than or equal to 32768"),
        ({"method": "few_shot", "shots": -1}, "greater than or equal to 0"),
        ({"method": "instruction", "all_answers": True}, "set shots from 1 on"),
        ({"method": "oracle"}, "'soft_prompt', 'instruction' or 'few_shot'"),
        ({"shots": 2}, "'task.in_context.method' is missing"),
    ],
)
def test_sections_are_refused(method: dict[str, Any], said: str, make_task: Make) -> None:
    assert said in refusal(lambda: make_task(task={"in_context": method}, architecture=LONG))


@pytest.mark.parametrize("field", ["pooling", "tune", "class_weights"])
def test_settings_of_a_head_are_refused(field: str, make_task: Make) -> None:
    values = {"pooling": "max", "tune": "frozen", "class_weights": "balanced"}
    task = {"in_context": {"method": "instruction"}, field: values[field]}
    message = refusal(lambda: make_task(task=task, architecture=LONG))
    assert message.endswith(
        f"task.{field} is for a head, and task.in_context answers with letters; leave one of the two out"
    )


def test_labels_and_stages_are_refused(make_task: Make) -> None:
    asked = {"in_context": {"method": "instruction"}}
    flags = make_task("multi_label", task=asked, architecture=LONG)
    assert "these labels are multi_label" in refusal(lambda: InContext(flags))
    short = make_task(task={**asked, "epochs": None}, architecture=LONG)
    stage = short.train.curriculum[0].model_copy(update={"seq_length": 30})
    short = short.model_copy(update={"train": short.train.model_copy(update={"curriculum": (stage,)})})
    assert "seq_length of train.curriculum is 30" in refusal(lambda: InContext(short))
    assert "has no section task.in_context" in refusal(lambda: InContext(make_task()))


def test_six_classes_end_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "six.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "label", "split"])
        for number in range(36):
            rows.writerow(
                [
                    "ACGT" * 3 + "ACGTAG"[number % 6] * (1 + number),
                    f"c{number % 6}",
                    ["train", "valid", "test"][number // 12],
                ]
            )
    (tmp_path / "task.yaml").write_text(
        f"{{output_dir: {tmp_path}, architecture: {{d_model: 8, n_layer: 1, l_max: 160}}, tracking: {{mlflow: false}}, "
        f"task: {{data: {{path: {tmp_path / 'six.csv'}}}, in_context: {{method: few_shot}}}}}}"
    )
    assert main(["finetune", str(tmp_path / "task.yaml")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the letters A, C, G, T, N stand for 2 to 5 classes, and these labels have 6" in said


def test_a_model_keeps_a_head_of_its_own(make_task: Make, tmp_path: Path) -> None:
    """The letters are told from the head, which a task with another head would leave out."""
    model = tiny_model(l_max=160, tie_embeddings=False)
    (tmp_path / "untied").mkdir()
    write_model(tmp_path / "untied", model)
    named = {"model": str(tmp_path / "untied"), "architecture": {}}
    config = make_task(task={"in_context": {"method": "instruction"}}, **named)
    built = InContext(config).build_model(Mesh())
    assert isinstance(built, HyenaDNA)
    assert built.lm_head is not None
    assert model.lm_head is not None
    assert (built.lm_head.weight == model.lm_head.weight).all()
    assert weights_fingerprint(config) is not None
    assert make_task(**named).model.tie_embeddings, "with a head on the backbone it has no part"


def test_nothing_is_tuned_for_few_shots(make_task: Make) -> None:
    objective = InContext(make_task(task={"in_context": {"method": "few_shot"}}, architecture=LONG))
    message = refusal(lambda: objective.batches(None, range(1), Mesh()))  # type: ignore[arg-type]
    assert "few_shot tunes nothing" in message
