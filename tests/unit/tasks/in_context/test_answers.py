"""Answers of the model: equal to what is computed by hand, whatever batches and modes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hyena_dist.config.in_context import InContextConfig
from hyena_dist.data.tokenizer import SEP, A, C, G
from hyena_dist.inference.load import load
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.in_context.answers import answer
from hyena_dist.tasks.in_context.contexts import Context, ContextWriter
from hyena_dist.tasks.in_context.demonstrations import Demonstrations
from hyena_dist.tasks.in_context.soft_prompt import SoftPrompt
from tests.unit.tasks.in_context.examples import labelled

GOLDEN = Path(__file__).parents[4] / "tests/golden/tiny"
SETTINGS = InContextConfig(method="few_shot", shots=3)


@pytest.mark.parametrize("batch_tokens", [1, 200, 10_000])
def test_few_shot_answers_are_those_computed_by_hand(batch_tokens: int) -> None:
    data = labelled(classes=3, longest=50)
    train, test = data.splits["train"], data.splits["test"]
    model = load(GOLDEN)
    letters = [A, C, G]
    by_hand, contexts = [], []
    shown = Demonstrations(train.labels, data.classes, 3)
    writer = ContextWriter(data, SETTINGS, shown, seed=0)
    for i in range(len(test)):
        demonstrations = shown.draw(0, i)
        ids: list[int] = []
        for example in demonstrations:
            ids += [*train.read(example).tolist(), SEP, letters[example % 3]]
        ids += [*test.read(i).tolist(), SEP]
        with torch.no_grad():
            logits: Tensor = model(torch.tensor([ids])).logits[0, -1]
        by_hand.append(logits[:12].log_softmax(0)[letters].numpy())
        contexts.append(writer.write(test, i, demonstrations, False, 211))
    model.train()
    found = answer(
        model,
        contexts.__getitem__,
        len(test),
        classes=3,
        vocab_size=12,
        mesh=Mesh(),
        batch_tokens=batch_tokens,
    )
    assert model.training
    np.testing.assert_allclose(found.numpy(), np.stack(by_hand), rtol=1e-5, atol=1e-5)
    assert np.ptp(found.numpy(), axis=0).min() > 0.1, "the answer depends on the context"


def test_a_soft_prompt_answers_after_its_query() -> None:
    model = load(GOLDEN)
    prompt = SoftPrompt(model, 20, average=0.9)
    with torch.no_grad():
        prompt.prompt_embeddings.normal_(std=2)
        prompt.average.copy_(prompt.prompt_embeddings)
    settings = InContextConfig(method="soft_prompt", prompt_tokens=20)
    data = labelled()
    test = data.splits["test"]

    writer = ContextWriter(data, settings, Demonstrations(test.labels, data.classes, 0), seed=0)

    def context(i: int) -> Context:
        return writer.held_out("test", i, False, 40)

    sizes = {"classes": 2, "vocab_size": 12, "mesh": Mesh(), "batch_tokens": 100}
    found = answer(prompt, context, 5, **sizes)  # type: ignore[arg-type]
    for i in range(5):
        tokens = torch.tensor([[*test.read(i).tolist(), SEP]])
        embedded = model.backbone.embeddings.word_embeddings(tokens)[:, 0]
        with torch.no_grad():
            logits = model(torch.cat([prompt.prompt_embeddings, embedded])[None]).logits[0, -1]
        torch.testing.assert_close(found[i], logits[:12].log_softmax(0)[[A, C]], rtol=1e-5, atol=1e-5)
