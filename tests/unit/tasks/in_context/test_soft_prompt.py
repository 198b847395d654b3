"""Soft prompts: a frozen model, a gradient for the prompt alone, and what the prompt can be seen by."""

import pytest
import torch
from torch import Tensor

from hyena_dist.inference.load import model_hash
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.in_context.soft_prompt import SoftPrompt
from tests.unit.tasks.in_context.examples import tiny_model

N = 5


def inputs_and_targets(answers: tuple[int, ...] = (15, 12)) -> tuple[Tensor, Tensor]:
    ids = torch.randint(7, 11, (2, 16), generator=torch.Generator().manual_seed(0))
    ids[:, :N] = 4
    targets = torch.full_like(ids, -100)
    for row, answer in enumerate(answers):
        targets[row, answer] = 7 + row
    return ids, targets


def prompted(model: HyenaDNA | None = None, **fields: float) -> SoftPrompt:
    torch.manual_seed(1)
    return SoftPrompt(model or tiny_model(), N, **fields)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_frozen_weights_are_unchanged_to_the_last_bit(recompute: bool) -> None:
    model = tiny_model()
    before = model_hash(model)
    prompt = prompted(model, dropout=0.1, average=0.9).train()
    prompt.recompute_activations(recompute)
    start = prompt.prompt_embeddings.detach().clone()
    optimizer = torch.optim.AdamW(prompt.parameters(), lr=0.5)
    ids, targets = inputs_and_targets()
    losses = []
    for step in range(20):
        loss = prompt(ids, targets, [step, step], skip_logits=True).nll.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model_hash(model) == before
    assert all(p.grad is None for p in model.parameters())
    assert losses[-1] < 0.95 * losses[0], "the prompt learns"
    assert not torch.equal(prompt.prompt_embeddings, start)


def test_the_prompt_is_all_that_is_trained_and_stored() -> None:
    prompt = prompted()
    assert [name for name, _ in prompt.named_parameters()] == ["prompt_embeddings"]
    assert sorted(prompt.state_dict()) == ["average", "prompt_embeddings"]
    assert prompt.prompt_embeddings.shape == (N, 8)
    prompt.double()
    assert prompt.model.compute_dtype == torch.float64, "what moves or casts it moves or casts the model"


def test_activation_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        prompt = prompted(dropout=0.1).train()
        prompt.recompute_activations(recompute)
        prompt(*inputs_and_targets(), [3, 4], skip_logits=True).nll.sum().backward()
        gradients.append(prompt.prompt_embeddings.grad)
    assert gradients[0] is not None
    assert gradients[0].abs().min() > 0
    assert torch.equal(*gradients)


def test_the_gradient_is_that_of_finite_differences() -> None:
    prompt = prompted().double().train()
    ids, targets = inputs_and_targets()

    def loss(values: Tensor) -> Tensor:
        with torch.no_grad():
            prompt.prompt_embeddings.copy_(values)
            return prompt(ids, targets).nll.sum()

    start = prompt.prompt_embeddings.detach().clone()
    prompt(ids, targets).nll.sum().backward()
    assert prompt.prompt_embeddings.grad is not None
    for row, column in ((0, 0), (2, 3), (4, 7)):
        step = torch.zeros_like(start)
        step[row, column] = 1e-4
        numeric = (loss(start + step) - loss(start - step)) / 2e-4
        assert prompt.prompt_embeddings.grad[row, column].item() == pytest.approx(numeric.item(), rel=1e-5, abs=1e-9)


def test_a_prompt_of_the_tokens_embeddings_is_those_tokens() -> None:
    """The model behind it sees positions as if there were no prompt but tokens; it drops nothing."""
    model = tiny_model()
    prompt = prompted(model).train()
    ids, targets = inputs_and_targets()
    tokens = torch.randint(7, 11, (N,), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        prompt.prompt_embeddings.copy_(model.backbone.embeddings.word_embeddings.weight[tokens])
        as_tokens = ids.clone()
        as_tokens[:, :N] = tokens
        expected, found = model(as_tokens, targets), prompt(ids, targets)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.nll, expected.nll)
        ids[:, :N] = 9
        assert torch.equal(prompt(ids).logits, expected.logits), "what stands in the prompt's places is not read"


def test_the_loss_is_on_the_answer_alone_and_sees_what_comes_before_it() -> None:
    prompt = prompted().train()
    ids, targets = inputs_and_targets(answers=(10, 7))
    under_the_head: list[Tensor] = []
    hook = prompt.model.backbone.ln_f.register_forward_hook(lambda *called: under_the_head.append(called[-1]))
    output = prompt(ids, targets)
    hook.remove()
    (gradient,) = torch.autograd.grad(output.nll.sum(), under_the_head)
    assert gradient.abs().sum(-1).t().nonzero().tolist() == [[0, 10], [1, 7]]
    changed = ids.clone()
    changed[:, 11:] = 8
    assert prompt(changed, targets).nll[0, 10].item() == pytest.approx(output.nll[0, 10].item(), rel=1e-6)
    changed[:, 10] = 1
    assert prompt(changed, targets).nll[0, 10].item() != pytest.approx(output.nll[0, 10].item(), rel=1e-3)


def test_dropout_is_of_the_prompt_alone_and_of_the_samples_seed() -> None:
    prompt = prompted(dropout=0.5).train()
    ids, _ = inputs_and_targets()
    ids[1] = ids[0]
    first = prompt(ids, None, [1, 2]).hidden_states
    assert torch.equal(first, prompt(ids, None, [1, 2]).hidden_states)
    assert torch.equal(first[0], prompt(ids.flip(0), None, [2, 1]).hidden_states[1])
    assert not torch.allclose(first[0], first[1])
    prompt.eval()
    last = prompt(ids).hidden_states
    assert torch.equal(last[0], last[1])
    # Where nothing of the prompt is left to drop, training is evaluation.
    with torch.no_grad():
        prompt.prompt_embeddings.zero_()
        prompt.average.zero_()
        assert torch.equal(prompt.train()(ids, None, [1, 2]).hidden_states, prompt.eval()(ids).hidden_states)


def test_evaluation_takes_the_average_over_steps() -> None:
    """After each step: average = decay * average + (1 - decay) * prompt, from the first prompt on."""
    decay = 0.9
    prompt = prompted(average=decay).double().train()
    ids, targets = inputs_and_targets()
    expected = prompt.prompt_embeddings.detach().clone()
    optimizer = torch.optim.SGD(prompt.parameters(), lr=1.0)
    for _ in range(3):
        prompt.begins_step = True
        for _ in range(2):  # two micro-batches of one step
            prompt(ids, targets, skip_logits=True).nll.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        expected = decay * expected + (1 - decay) * prompt.prompt_embeddings.detach()
    averaged = prompt.eval()(ids).logits
    with torch.no_grad():
        prompt.prompt_embeddings.copy_(expected)
        prompt.average.copy_(expected)
    torch.testing.assert_close(averaged, prompt(ids).logits)
