"""HyenaDNAModel: results that padding does not touch, states, embeddings, types, and what is refused."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from hyena_dist import UserError
from hyena_dist.hf import HyenaDNAForCausalLM, HyenaDNAForSequenceClassification, HyenaDNAModel
from hyena_dist.hf.convert import from_native
from hyena_dist.models.lm import HyenaDNA
from tests.unit.hf.small import LENGTH, build, config, ids

LENGTHS = (23, 7, 1, 16)


def padded(side: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A batch of mixed lengths, its mask, and its sequences."""
    alone = [ids(n, seed=n) for n in LENGTHS]
    batch, mask = torch.full((len(alone), max(LENGTHS)), 4), torch.zeros(len(alone), max(LENGTHS), dtype=torch.long)
    for i, row in enumerate(alone):
        here = slice(0, len(row)) if side == "right" else slice(max(LENGTHS) - len(row), None)
        batch[i, here], mask[i, here] = row, 1
    return batch, mask, alone


LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}


@torch.no_grad()
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layers", [None, "HA"])
def test_padding_changes_nothing(layers: str | None, side: str, dtype: torch.dtype) -> None:
    attention = {"layer_pattern": layers, "num_attention_heads": 2} if layers else {}
    model = build(HyenaDNAForCausalLM, hyena_order=3, **attention).to(dtype)
    batch, mask, alone = padded(side)
    out = model(batch, mask, output_hidden_states=True)
    for i, row in enumerate(alone):
        wanted = model(row[None], output_hidden_states=True)
        kept = mask[i].bool()
        for found, single in zip((*out.hidden_states, out.logits), (*wanted.hidden_states, wanted.logits), strict=True):
            assert (found[i, kept] - single[0]).abs().max() <= LIMITS[dtype] * single.abs().max()
            assert (found[i, ~kept] == 0).all()


def test_gradients_do_not_feel_padding() -> None:
    """Neither those of the parameters nor those of given embeddings, of which padding has none."""
    found: list[list[Tensor]] = []
    for side in ("left", "right"):
        model = build(HyenaDNAModel).double()
        batch, mask, _ = padded(side)
        embeds = model.get_input_embeddings()(batch).detach().requires_grad_()
        model(attention_mask=mask, inputs_embeds=embeds).last_hidden_state.square().sum().backward()
        assert embeds.grad[~mask.bool()].abs().max() <= 1e-15 * embeds.grad.abs().max()
        kept = torch.cat([gradient[m] for gradient, m in zip(embeds.grad, mask.bool(), strict=True)])
        parameters = [p.grad for n, p in model.named_parameters() if "word_embeddings" not in n]
        found.append([kept, *parameters])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-10 * a.abs().max()


@torch.no_grad()
def test_hidden_states_are_what_the_layers_pass_on() -> None:
    model = build(HyenaDNAModel, n_layer=3)
    seen: list[Tensor] = []
    for layer in model.backbone.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].transpose(0, 1)))
    out = model(ids(2, 20), output_hidden_states=True)
    assert len(out.hidden_states) == 3 + 1
    assert torch.equal(out.hidden_states[0], model.get_input_embeddings()(ids(2, 20)))
    for state, wanted in zip(out.hidden_states, (*seen, out.last_hidden_state), strict=True):
        assert torch.equal(state, wanted)
    assert model(ids(2, 20)).hidden_states is None


@torch.no_grad()
def test_embeddings_tuples_and_small_integers_give_the_same() -> None:
    model = build(HyenaDNAModel)
    wanted = model(ids(2, 20)).last_hidden_state
    assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids(2, 20))).last_hidden_state, wanted)
    assert torch.equal(model(ids(2, 20), return_dict=False)[0], wanted)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(model(ids(2, 20).to(dtype)).last_hidden_state, wanted)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_it_computes_what_our_model_does(tied: bool) -> None:
    ours = HyenaDNA(config(hyena_order=3, tie_word_embeddings=tied, shift=0.0).architecture).eval()
    theirs = from_native(ours)
    assert theirs.config.shift == 0.0
    assert theirs.config.architecture == ours.config
    assert (theirs.lm_head.weight is theirs.get_input_embeddings().weight) == tied
    assert torch.equal(theirs(ids(2, 30)).logits, ours(ids(2, 30)).logits)
    theirs.get_input_embeddings().weight.zero_()
    assert ours.backbone.embeddings.word_embeddings.weight.abs().max() > 0


@torch.no_grad()
def test_16_bits_spare_the_filters() -> None:
    exact = build(HyenaDNAModel)
    for dtype in (torch.bfloat16, torch.float16):
        model = copy.deepcopy(exact).to(dtype)
        assert {p.dtype for n, p in model.named_parameters() if "filter_fn" in n} == {torch.float32}
        out = model(ids(2, 30)).last_hidden_state
        assert out.dtype == dtype
        assert (out.float() - exact(ids(2, 30)).last_hidden_state).abs().max() <= 16 * torch.finfo(dtype).eps * 3
    fresh = HyenaDNAModel._from_config(config(), dtype=torch.bfloat16)
    assert fresh.dtype == torch.bfloat16
    assert fresh.backbone.layers[0].mixer.filter_fn.bias.dtype == torch.float32
    with pytest.raises(UserError, match=r"a model cannot compute in torch\.int8"):
        exact.to(torch.int8)


@torch.no_grad()
def test_compiled_models_give_the_same() -> None:
    """By the fastest of torch's compilers, which traces as the default one does; that was tried by hand."""
    model = build(HyenaDNAForCausalLM)
    compiled = torch.compile(model, backend="aot_eager")
    batch, mask, _ = padded("left")
    for arguments in ({"input_ids": batch}, {"input_ids": batch, "attention_mask": mask, "labels": batch}):
        found, wanted = compiled(**arguments), model(**arguments)
        assert (found.logits - wanted.logits).abs().max() <= 1e-5
        assert wanted.loss is None or (found.loss - wanted.loss).abs() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kind", [HyenaDNAModel, HyenaDNAForCausalLM, HyenaDNAForSequenceClassification])
def test_copies_and_pickles(kind: type[HyenaDNAModel]) -> None:
    model = build(kind)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.optim.swa_utils.AveragedModel(model)):
        assert torch.equal(copied(ids(2, 20))[0], model(ids(2, 20))[0])


def test_parts_that_a_file_lacks_are_drawn_as_in_training(tmp_path: pytest.TempPathFactory) -> None:
    """No tensor is left as memory happened to be: each has the scale that a fresh model's has."""
    wanted = build(HyenaDNAForCausalLM)
    state = {k: v for k, v in wanted.state_dict().items() if "layers.1" not in k and "embeddings" not in k}
    wanted.save_pretrained(tmp_path, state_dict=state)
    found, report = HyenaDNAForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert any("layers.1.mixer.filter_fn.pos_emb.z" in name for name in report["missing_keys"])
    fresh = HyenaDNAForCausalLM(config())
    for (name, a), b, kept in zip(found.named_parameters(), fresh.parameters(), wanted.parameters(), strict=True):
        if name in report["missing_keys"]:
            assert torch.equal(a, b) if b.std() == 0 else 0.5 < a.std() / b.std() < 2, name
        else:
            assert torch.equal(a, kept), name
    for (name, a), b in zip(found.named_buffers(), wanted.buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "give either input_ids or inputs_embeds, and not both"),
        ({"input_ids": ids(1, 4), "inputs_embeds": torch.zeros(1, 4, 16)}, "give either input_ids or inputs_embeds"),
        ({"input_ids": ids(0, 4)}, r"token ids of shape \(0, 4\) hold no token"),
        ({"input_ids": ids(2, 0)}, r"token ids of shape \(2, 0\) hold no token"),
        ({"inputs_embeds": torch.zeros(0, 4, 16)}, r"embeddings of shape \(0, 4, 16\) hold no token"),
        ({"input_ids": torch.tensor([[7, 16]])}, "token id 16 is not in the model's vocabulary of 16"),
        ({"input_ids": torch.tensor([[7, -100]])}, "token id -100 is not in the model's vocabulary"),
        ({"input_ids": ids(1, LENGTH + 1)}, f"a sequence of {LENGTH + 1} is longer than the model's l_max {LENGTH}"),
    ],
)
def test_what_is_refused(arguments: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(HyenaDNAModel)(**arguments)
