"""The transformer is the paper's: PyTorch's own layers with the same weights, the positions, the initialisation."""

import math

import pytest
import torch
from laws import build, perturbed
from torch import nn

from zoo.architectures.transformer import ARCHITECTURE, TransformerConfig, sinusoids

SMALL = TransformerConfig(vocab_size=101, dim=24, depth=3, num_heads=3, mlp_dim=40, dropout=0.0)
WIDE = TransformerConfig(vocab_size=500, dim=128, depth=2, num_heads=4, mlp_dim=256, dropout=0.0)
PARTS = {"norm1": "norm1", "norm2": "norm2", "norm3": "norm3", "mlp.up": "linear1", "mlp.proj": "linear2"}
ATTENTIONS = {"attn": "self_attn", "cross": "multihead_attn"}


class Theirs(nn.Module):
    """The same network of PyTorch's layers, with what they leave to their users."""

    def __init__(self, config):
        super().__init__()
        options = {
            "d_model": config.dim, "nhead": config.num_heads, "dim_feedforward": config.mlp_dim, "dropout": 0.0,
            "layer_norm_eps": config.norm_eps, "batch_first": True, "norm_first": False,
        }  # fmt: skip
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        encoder, decoder = nn.TransformerEncoderLayer(**options), nn.TransformerDecoderLayer(**options)
        self.encoder = nn.TransformerEncoder(encoder, config.depth, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, config.depth)

    def forward(self, source, tokens, source_mask=None):
        hidden = None if source_mask is None else ~source_mask
        causal = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        encoded = self.encoder(self.read(source), src_key_padding_mask=hidden)
        decoded = self.decoder(
            self.read(tokens), encoded, tgt_mask=causal, memory_key_padding_mask=hidden, tgt_is_causal=True
        )
        return decoded @ self.embed.weight.T

    def read(self, tokens):
        dim = self.config.dim
        table = torch.tensor(
            [
                [(math.sin, math.cos)[i % 2](position / 10000 ** (2 * (i // 2) / dim)) for i in range(dim)]
                for position in range(tokens.shape[1])
            ]
        )
        return self.embed(tokens) * dim**0.5 + table

    def load(self, ours):
        """Our tensors by their names; their attention has biases too, which are zero."""
        found = {"embed.weight": ours["embed.weight"]}
        for half in ("encoder", "decoder"):
            for block in range(self.config.depth):
                mine, their = f"{half}.blocks.{block}", f"{half}.layers.{block}"
                for name, part in ours.items():
                    for our, other in PARTS.items():
                        if name.startswith(f"{mine}.{our}."):
                            found[name.replace(f"{mine}.{our}", f"{their}.{other}")] = part
                for our, other in ATTENTIONS.items():
                    if f"{mine}.{our}.query.weight" in ours:
                        qkv = [ours[f"{mine}.{our}.{name}.weight"] for name in ("query", "key", "value")]
                        proj = ours[f"{mine}.{our}.proj.weight"]
                        found[f"{their}.{other}.in_proj_weight"] = torch.cat(qkv)
                        found[f"{their}.{other}.in_proj_bias"] = torch.zeros(3 * len(proj))
                        found[f"{their}.{other}.out_proj.weight"] = proj
                        found[f"{their}.{other}.out_proj.bias"] = torch.zeros(len(proj))
        return found


def relative(value, truth):
    return ((value - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("mask", [False, True], ids=["full", "padded"])
def test_logits_and_every_gradient_are_those_of_pytorch_s_own_layers(mask):
    ours, theirs = perturbed(ARCHITECTURE, SMALL), Theirs(SMALL)  # both layers are without dropout
    theirs.load_state_dict(theirs.load(dict(ours.state_dict())))
    source, tokens = torch.randint(101, (3, 17)), torch.randint(101, (3, 13))
    source_mask = torch.arange(17) < torch.tensor([17, 9, 1])[:, None] if mask else None
    direction = torch.randn(3, 13, 101)
    logits, expected = (model(source, tokens, source_mask) for model in (ours, theirs))
    assert relative(logits, expected) < 2e-6
    (logits * direction).sum().backward()
    (expected * direction).sum().backward()
    gradients = theirs.load({name: parameter.grad for name, parameter in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        if "_proj.bias" not in name and "in_proj_bias" not in name:
            assert relative(gradients[name], parameter.grad) < 1e-5, name


def test_positions_are_sines_and_cosines_of_ever_longer_waves():
    table = sinusoids(0, 300, 8, torch.device("cpu"))
    position = torch.arange(300)
    torch.testing.assert_close(table[:, 0], position.sin())
    torch.testing.assert_close(table[:, 1], position.cos())
    torch.testing.assert_close(table[:, 2], (position / 10).sin(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(table[:, 7], (position / 1000).cos())
    assert torch.equal(sinusoids(40, 50, 8, table.device), table[40:50])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("embed.weight", 128**-0.5),
        ("encoder.blocks.1.attn.query.weight", 128**-0.5),
        ("decoder.blocks.1.cross.proj.weight", 128**-0.5),
        ("decoder.blocks.0.mlp.up.weight", math.sqrt(2 / (128 + 256))),
        ("encoder.blocks.0.mlp.proj.weight", math.sqrt(2 / (128 + 256))),
    ],
)
def test_weights_start_with_the_deviation_of_the_released_code(name, deviation):
    weight = build(ARCHITECTURE, WIDE).get_parameter(name)
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert abs(weight.mean().item()) < 4 * deviation / math.sqrt(weight.numel())


def test_what_is_read_and_what_is_scored_is_one_matrix():
    model = build(ARCHITECTURE, WIDE).eval()
    assert not [name for name, p in model.named_parameters() if 500 in p.shape and name != "embed.weight"]
    text = torch.zeros(1, 3, dtype=torch.int64)
    before = model(text, text)
    with torch.no_grad():
        model.embed.weight[7] *= -1  # token 7 is in neither text, only scored
    torch.testing.assert_close(model(text, text)[..., 7], -before[..., 7])


def test_embeddings_and_positions_have_the_same_order_of_magnitude():
    model = build(ARCHITECTURE, WIDE).eval()
    tokens = torch.randint(500, (4, 50))
    embedded = model._embed(tokens) - sinusoids(0, 50, 128, tokens.device)
    assert embedded.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("place", ["source", "target", "attn", "cross", "mlp"])
def test_dropout_acts_where_the_paper_has_it(place):
    model = build(ARCHITECTURE, WIDE)
    encoder, decoder = model.encoder.blocks[0], model.decoder.blocks[0]
    module, what = {
        "source": (model, encoder), "target": (model, decoder), "attn": (decoder, decoder.norm1),
        "cross": (decoder, decoder.norm2), "mlp": (decoder, decoder.norm3),
    }[place]  # fmt: skip
    seen = []
    module.dropout.p = 0.5
    what.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    text = torch.randint(500, (2, 20))
    for train in (True, True, False, False):
        model.train(train)(text, text)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    if place in ("source", "target"):
        assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("call", ["source", "tokens"])
def test_texts_without_a_batch_axis_are_refused(call):
    inputs = build(ARCHITECTURE).example_inputs(2)
    with pytest.raises(ValueError, match=r"\(batch, seq\) .* got shape \(1[02],\)"):
        build(ARCHITECTURE)(**inputs | {call: inputs[call][0]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 20, "num_heads": 3}, "dim 20 is not divisible by num_heads 3"),
        ({"dim": 9, "num_heads": 3}, "dim 9 is odd"),
        ({"depth": 0}, "depth 0 is below 1"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
        ({"pad_token": -1}, r"pad_token -1 is not in \[0, 37000\)"),
        ({"vocab_size": 2}, r"stop_token 2 is not in \[0, 2\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**options)
