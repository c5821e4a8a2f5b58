"""GPT-2 is the published network: its numbers, its initialisation, its limits."""

import math

import pytest
import torch
from laws import build, perturbed

from zoo.architectures.gpt2 import ARCHITECTURE, GPT2Config
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer

SMALL = GPT2Config(vocab_size=101, max_seq_len=24, dim=24, depth=3, num_heads=3, dropout=0.0)
WIDE = GPT2Config(vocab_size=500, max_seq_len=200, dim=128, depth=8, num_heads=4)

THEIR_NAMES = {
    "embed": "wte", "position": "wpe", "blocks": "h", "norm": "ln_f", "norm1": "ln_1", "norm2": "ln_2", "qkv": "c_attn",
    "proj": "c_proj", "up": "c_fc",
}  # fmt: skip


def transformers_pair():
    """transformers' network and ours with the same weights, none of them at its initial value."""
    transformers = pytest.importorskip("transformers")
    ours = perturbed(ARCHITECTURE, SMALL)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=101, n_positions=24, n_embd=24, n_layer=3, n_head=3, eos_token_id=None)
    ).eval()
    for name, parameter in ours.named_parameters():
        counterpart(theirs, name).data.copy_(oriented(name, parameter.data))
    return ours, theirs


def counterpart(theirs, name):
    return theirs.get_parameter("transformer." + ".".join(THEIR_NAMES.get(part, part) for part in name.split(".")))


def oriented(name, tensor):
    """Their Conv1D is a linear layer with its weight transposed."""
    return tensor.T if tensor.ndim == 2 and name.startswith("blocks") else tensor


def relative(value, truth):
    return ((value - truth).norm() / truth.norm()).item()


@pytest.mark.peers
def test_logits_and_every_gradient_are_those_of_transformers():
    ours, theirs = transformers_pair()
    tokens = torch.randint(101, (2, 24))
    direction = torch.randn(2, 24, 101)
    logits, expected = ours(tokens), theirs(tokens).logits
    assert relative(logits, expected) < 1e-5
    (logits * direction).sum().backward()
    (expected * direction).sum().backward()
    for name, parameter in ours.named_parameters():
        assert relative(oriented(name, parameter.grad), counterpart(theirs, name).grad) < 1e-5, name


@pytest.mark.peers
def test_greedy_generation_is_that_of_transformers():
    ours, theirs = transformers_pair()
    prompt = torch.randint(101, (4, 5))
    expected = theirs.generate(prompt, max_new_tokens=19, do_sample=False, pad_token_id=0)
    assert torch.equal(ours.generate(prompt, 19), expected)


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("embed.weight", 0.02),
        ("position.weight", 0.01),
        ("blocks.3.attn.qkv.weight", 0.02),
        ("blocks.3.mlp.up.weight", 0.02),
        ("blocks.3.attn.proj.weight", 0.02 / math.sqrt(16)),
        ("blocks.7.mlp.proj.weight", 0.02 / math.sqrt(16)),
    ],
)
def test_weights_start_with_the_published_deviation(name, deviation):
    weight = build(ARCHITECTURE, WIDE).get_parameter(name)
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert abs(weight.mean().item()) < 4 * deviation / math.sqrt(weight.numel())


def test_a_fresh_model_knows_nothing():
    model = build(ARCHITECTURE, WIDE).eval()
    tokens = torch.randint(500, (8, 200))
    loss = torch.nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(500), rel=0.02)


def test_the_embedding_scores_the_next_token_unless_a_head_is_asked_for():
    tied, own = (
        build(ARCHITECTURE, GPT2Config(**vars(SMALL) | {"tie_embeddings": tie})).eval() for tie in (True, False)
    )
    assert not [name for name in tied.state_dict() if "head" in name]
    assert own.head.weight.shape == (101, 24)
    for model, scores in ((tied, tied.embed), (own, own.head)):
        before = model(torch.zeros(1, 1, dtype=torch.int64))
        with torch.no_grad():
            scores.weight[7] *= -1  # token 7 is not in the text, only scored
        after = model(torch.zeros(1, 1, dtype=torch.int64))
        torch.testing.assert_close(after[..., 7], -before[..., 7])


@pytest.mark.parametrize("place", ["embedding", "attention", "attention output", "mlp output"])
def test_dropout_acts_where_the_paper_has_it(place):
    model = build(ARCHITECTURE, SMALL)
    block = model.blocks[1]
    modules = {
        "embedding": [model],
        "attention": [block.attn],
        "attention output": [block.attn],
        "mlp output": [block.mlp],
    }
    torch.nn.init.normal_(block.attn.qkv.weight)
    for module in modules[place]:
        module.dropout.p = 0.5
    if place == "attention":
        block.attn.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    elif place == "attention output":
        block.attn.register_forward_hook(lambda _, __, output: seen.append(output))
    elif place == "mlp output":
        block.mlp.register_forward_hook(lambda _, __, output: seen.append(output))
    else:
        model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    seen = []
    tokens = torch.randint(101, (2, 24))
    for train in (True, True, False, False):
        model.train(train)(tokens)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    if place != "attention":
        assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_it_learns_a_text_and_writes_it_on(tmp_path):
    saying = b"a quick brown fox jumps over the lazy dog. "
    (tmp_path / "saying.txt").write_bytes(saying * 40)
    run = {
        "model": {"name": "gpt2", "dim": 32, "depth": 2, "num_heads": 2, "dropout": 0.0},
        "data": {"name": "text", "path": str(tmp_path / "saying.txt"), "seq_len": 32, "batch_size": 16},
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup": 0.1},
        "trainer": {"steps": 100, "device": "cpu"},
    }
    result = Trainer(RunConfig.of(run), quiet=True).fit()
    assert result.metrics["bits_per_byte"] < 0.5  # a letter by itself has more than 4
    text = result.model.generate(torch.tensor([list(saying[:10])]), 22)
    assert bytes(text[0].tolist()) == saying[:32]


@pytest.mark.parametrize("use", ["forward", "generate", "new_state", "step"])
def test_a_text_longer_than_the_context_is_refused(use):
    model = build(ARCHITECTURE, SMALL).eval()
    fits, tokens = torch.zeros(1, 24, dtype=torch.int64), torch.zeros(1, 25, dtype=torch.int64)
    calls = {
        "forward": lambda text: model(text),
        "generate": lambda text: model.generate(text[:, :5], text.shape[1] - 5),
        "new_state": lambda text: model.new_state(text.shape[1]),
        "step": lambda text: model.step(text, model.new_state(24)),
    }
    calls[use](fits)
    with pytest.raises(ValueError, match=r"25 tokens.* max_seq_len 24"):
        calls[use](tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 20, "num_heads": 3}, "dim 20 is not divisible by num_heads 3"),
        ({"depth": 0}, "depth 0 is below 1"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GPT2Config(**options)
