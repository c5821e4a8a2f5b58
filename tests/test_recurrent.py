"""The recurrent networks' equations are PyTorch's, their state carries texts on, and padding is not there."""

import dataclasses
import math

import pytest
import torch
from laws import build, each, perturbed
from torch import nn

from zoo.architectures import gru, lstm, rnn
from zoo.pipelines import complete
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer

RECORDS = [rnn.ARCHITECTURE, gru.ARCHITECTURE, lstm.ARCHITECTURE]
THEIRS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
USES = {
    "language model": {},
    "classifier": {"num_classes": 3},
    "forecaster": {"vocab_size": None, "in_features": 5, "out_features": 2},
}
BOTH_WAYS = {"num_classes": 3, "bidirectional": True}
LENGTHS = torch.tensor([5, 12, 1, 8])
MASK = torch.arange(12) < LENGTHS[:, None]

each_network = each(RECORDS)
each_use = pytest.mark.parametrize("use", USES)


def sized(architecture, **options):
    return perturbed(architecture, dataclasses.replace(architecture.tiny, **options))


def texts(use="language model"):
    """A batch of 4 x 12 for such a network."""
    return torch.randn(4, 12, 5) if use == "forecaster" else torch.randint(64, (4, 12))


def gradients(model, output, direction):
    return torch.autograd.grad((output * direction).sum(), list(model.parameters()))


def assert_all_close(ours, expected, **tolerance):
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def by_equations(cell, x):
    """What a cell puts out, position by position."""
    state = (x.new_zeros(len(x), cell.state.in_features),) * cell.num_states
    outputs = []
    for position in x.unbind(1):
        state = cell(position, state)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1)


def both_ways(block, x):
    ahead = by_equations(block.ahead, x)
    return ahead if block.back is None else torch.cat([ahead, by_equations(block.back, x.flip(1)).flip(1)], dim=-1)


def counterpart(model):
    """PyTorch's own module with the model's weights, all layers in one."""
    config = model.config
    theirs = THEIRS[type(model).__name__](
        config.in_features or config.dim, config.dim, config.depth, batch_first=True, bidirectional=config.bidirectional
    )
    for depth, block in enumerate(model.blocks):
        for cell, way in ((block.ahead, ""), (block.back, "_reverse")):
            for part, kind in () if cell is None else ((cell.input, "ih"), (cell.state, "hh")):
                getattr(theirs, f"weight_{kind}_l{depth}{way}").data = part.weight.data
                getattr(theirs, f"bias_{kind}_l{depth}{way}").data = part.bias.data
    return theirs


@each_network
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_the_equations_are_those_of_the_fused_function_in_values_and_gradients(architecture, bidirectional):
    model = sized(architecture, **USES["forecaster"], bidirectional=bidirectional).double()
    x = features = torch.randn(4, 12, 5, dtype=torch.float64)
    for block in model.blocks:
        x = both_ways(block, x)
    output, expected, direction = model(features), model.head(x), torch.randn(4, 12, 2, dtype=torch.float64)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(output, model.head(counterpart(model)(features)[0]))
    assert_all_close(gradients(model, output, direction), gradients(model, expected, direction))


@each_network
@each_use
def test_a_text_read_in_pieces_is_the_whole_text(architecture, use):
    model, x = sized(architecture, **USES[use]), texts(use)
    whole, state = model(x), model.new_state(12)
    pieces = []
    for piece in x.split((1, 4, 7), dim=1):
        output, state = model(piece, state)
        pieces.append(output)
    joined = pieces[-1] if use == "classifier" else torch.cat(pieces, dim=1)
    torch.testing.assert_close(joined, whole)
    direction = torch.randn_like(whole)
    expected = gradients(model, whole, direction)
    assert_all_close(gradients(model, joined, direction), expected, rtol=1e-4, atol=1e-5)


@each_network
@each_use
@torch.no_grad()
def test_steps_give_what_forward_gives_at_their_last_position(architecture, use):
    model, x = sized(architecture, **USES[use]), texts(use)
    state = model.new_state(12)
    for end, piece in zip((1, 2, 5, 6, 12), x.split((1, 1, 3, 1, 6), dim=1), strict=True):
        output, state = model.step(piece, state)
        expected = model(x[:, :end])
        torch.testing.assert_close(output, expected if use == "classifier" else expected[:, -1])


@each_network
def test_a_detached_state_ends_the_gradient(architecture):
    model, tokens = sized(architecture), torch.tensor([[1, 2], [1, 3]])
    for detach in (False, True):
        _, state = model(tokens[:, :1], model.new_state(2))
        if detach:
            state = [tuple(part.detach() for part in layer) for layer in state]
        model.zero_grad()
        model(tokens[:, 1:], state)[0].sum().backward()
        assert bool(model.embed.weight.grad[1].any()) != detach
        assert model.embed.weight.grad[2].any()


@each_network
@pytest.mark.parametrize("options", [*USES.values(), BOTH_WAYS], ids=[*USES, "classifier both ways"])
def test_a_padded_sequence_is_what_it_is_alone_in_values_and_gradients(architecture, options):
    model = sized(architecture, **options).double()
    numbers = options.get("vocab_size", 64) is None
    x = texts("forecaster").double() if numbers else texts()
    padded = model(features=x, mask=MASK) if numbers else model(tokens=x, mask=MASK)
    alone = [model(x[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
    if padded.ndim == 3:
        padded, alone = padded[MASK], torch.cat([row[0] for row in alone])
    else:
        alone = torch.cat(alone)
    torch.testing.assert_close(padded, alone)
    direction = torch.randn_like(alone)
    assert_all_close(gradients(model, padded, direction), gradients(model, alone, direction))


@each_network
def test_what_stands_in_the_padding_and_how_much_there_is_changes_nothing(architecture):
    model, x = sized(architecture, **BOTH_WAYS), texts()
    expected = model(x, mask=MASK)
    assert torch.equal(model(torch.where(MASK, x, 63 - x), mask=MASK), expected)
    wider = torch.cat([x, texts()], dim=1)
    assert torch.equal(model(wider, mask=torch.cat([MASK, torch.zeros_like(MASK)], dim=1)), expected)
    assert not torch.allclose(model(x), expected)


@each_network
def test_a_padded_text_is_read_on_from_where_it_ended(architecture):
    model, x = sized(architecture), texts()
    _, state = model(x, model.new_state(12), mask=MASK)
    more = texts()
    output, state = model(more, state, mask=MASK.flip(0))
    for row, (before, after) in enumerate(zip(LENGTHS, LENGTHS.flip(0), strict=True)):
        text = torch.cat([x[row, :before], more[row, :after]])[None]
        expected, alone = model(text, model.new_state(24))
        torch.testing.assert_close(output[row, :after], expected[0, before:])
        for layer, same in zip(state, alone, strict=True):
            assert_all_close([part[row] for part in layer], [part[0] for part in same])


@each_network
def test_a_classifier_sees_the_last_position_ahead_and_the_first_one_back(architecture):
    model = sized(architecture, **BOTH_WAYS, depth=1)
    (block,), x = model.blocks, texts()
    expected = []
    for row, length in zip(x, LENGTHS, strict=True):
        vectors = model.embed(row[:length])[None]
        ends = by_equations(block.ahead, vectors)[:, -1], by_equations(block.back, vectors.flip(1))[:, -1]
        expected.append(model.head(torch.cat(ends, dim=-1)))
    torch.testing.assert_close(model(x, mask=MASK), torch.cat(expected))


@each_network
def test_features_may_stand_in_the_place_of_tokens(architecture):
    model, x = sized(architecture, **USES["forecaster"]), texts("forecaster")
    assert model.example_inputs(3)["features"].shape == (3, 16, 5)
    assert model(x).shape == (4, 12, 2)
    assert torch.equal(model(x), model(features=x))


@each_network
def test_tied_embeddings_are_one_tensor(architecture):
    model = sized(architecture, tie_embeddings=True)
    assert model.head is None
    assert {name for name in model.state_dict() if not name.startswith("blocks.")} == {"embed.weight"}
    first = torch.zeros(1, 1, dtype=torch.int64)
    before = model(first)
    with torch.no_grad():
        model.embed.weight[7] *= -1  # token 7 is not in the text, only scored
    torch.testing.assert_close(model(first)[..., 7], -before[..., 7])


@each_network
def test_dropout_acts_on_the_embedding_and_on_what_each_layer_puts_out(architecture):
    model = sized(architecture, dropout=0.5).train()
    seen = []
    for module in (*model.blocks, model.head):
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(texts())
    for x in seen:
        assert (x == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    seen.clear()
    model.eval()(texts())
    assert all(x.all() for x in seen)


@each_network
def test_recurrent_matrices_start_orthogonal_and_biases_at_zero_but_for_the_forget_gate(architecture):
    for block in build(architecture).blocks:
        gates = block.ahead.state.weight.unflatten(0, (-1, 16))
        torch.testing.assert_close(gates @ gates.mT, torch.eye(16).expand_as(gates))
        bias = (block.ahead.input.bias + block.ahead.state.bias).unflatten(0, (-1, 16))
        expected = [0.0, 1.0, 0.0, 0.0] if architecture.name == "lstm" else [0.0] * len(gates)
        assert torch.equal(bias, torch.tensor(expected)[:, None].expand_as(bias))


@each_network
@pytest.mark.parametrize("tie_embeddings", [False, True], ids=["own head", "tied"])
def test_a_fresh_model_knows_nothing(architecture, tie_embeddings):
    model = build(architecture, architecture.config(tie_embeddings=tie_embeddings))
    tokens = torch.randint(256, (8, 100))
    loss = nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(256), rel=0.1)


@each_network
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim 0 is below 1"),
        ({"num_classes": 0}, "num_classes 0 is below 1"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"in_features": 5}, "vocab_size 256 and in_features 5: .* set one and make the other None"),
        ({"vocab_size": None}, "vocab_size None and in_features None"),
        ({"num_classes": 3, "out_features": 2}, "num_classes 3 and out_features 2: .* leave one of them None"),
        ({"vocab_size": None, "in_features": 5}, "in_features 5 without an output; set num_classes or out_features"),
        ({"bidirectional": True}, "bidirectional True: a language model .* make it False, or set num_classes"),
        ({"tie_embeddings": True, "num_classes": 3}, "tie_embeddings True, but .* num_classes 3 .*; make it False"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_contradict_each_other_are_refused(architecture, options, message):
    with pytest.raises(ValueError, match=message):
        architecture.config(**options)


TOKENS = torch.zeros(2, 3, dtype=torch.int64)


@each_network
@pytest.mark.parametrize(
    ("use", "inputs", "message"),
    [
        ("language model", {}, "neither tokens nor features"),
        ("language model", {"tokens": TOKENS, "features": torch.zeros(2, 3, 5)}, "both tokens and features"),
        ("language model", {"tokens": TOKENS[0]}, r"\(batch, seq\) with seq at least 1, got shape \(3,\)"),
        ("language model", {"tokens": torch.zeros(2, 3, 5)}, "tokens must be an int64 tensor, got torch.float32"),
        ("language model", {"tokens": TOKENS[:, :0]}, r"seq at least 1, got shape \(2, 0\)"),
        ("forecaster", {"features": torch.zeros(2, 3, 4)}, r"in_features 5\), seq .* got shape \(2, 3, 4\)"),
        ("classifier", {"tokens": TOKENS, "mask": TOKENS[:, 1:] == 0}, r"mask must be \(batch, seq\) = \(2, 3\)"),
        ("classifier", {"tokens": TOKENS, "mask": TOKENS + 1}, r"mask must .* bool, got torch.int64 .*; mask.bool\(\)"),
        ("classifier", {"tokens": TOKENS, "mask": torch.tensor([[True] * 3, [False] * 3])}, "pad on the right"),
        ("classifier", {"tokens": TOKENS, "mask": torch.tensor([[True] * 3, [False, True, True]])}, "pad on the right"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_that_do_not_fit_are_refused(architecture, use, inputs, message):
    with pytest.raises(ValueError, match=message):
        sized(architecture, **USES[use])(**inputs)


@each_network
def test_a_network_that_reads_both_ways_has_no_state(architecture):
    model, message = sized(architecture, **BOTH_WAYS), "bidirectional network .* has no state"
    state = [None] * model.config.depth
    for use in (lambda: model.new_state(3), lambda: model(TOKENS, state), lambda: model.step(TOKENS, state)):
        with pytest.raises(ValueError, match=message):
            use()


WRONG_STATES = {
    "one text more": lambda layers: [tuple(torch.cat([part, part[:1]]) for part in layer) for layer in layers],
    "one text less": lambda layers: [tuple(part[:1] for part in layer) for layer in layers],
    "a width of 1": lambda layers: [tuple(part[:, :1] for part in layer) for layer in layers],
    "an axis more": lambda layers: [tuple(part[None] for part in layer) for layer in layers],
    "a part less": lambda layers: [layer[1:] for layer in layers],
    "a wrong layer behind an empty one": lambda layers: [None, tuple(part[:1] for part in layers[1])],
}


@each_network
@pytest.mark.parametrize("wrong", WRONG_STATES.values(), ids=WRONG_STATES.keys())
@torch.no_grad()
def test_a_state_that_is_not_of_these_texts_is_refused_and_no_memory_behind_it_is_read(architecture, wrong):
    model = sized(architecture)
    _, state = model.step(TOKENS, model.new_state(3))
    for read in (model, model.step):
        for tokens in (TOKENS, TOKENS[:, :1]):
            with pytest.raises(ValueError, match=r"a state of shapes .* does not fit: .* they are \(2, 16\)"):
                read(tokens, wrong(state))


@each_network
@pytest.mark.parametrize("use", ["classifier", "forecaster"])
def test_a_network_that_predicts_no_tokens_writes_no_text(architecture, use):
    model, message = sized(architecture, **USES[use]), "(num_classes 3|out_features 2) predicts no tokens"
    for write in (model.generate, lambda *request: list(model.stream(*request))):
        with pytest.raises(ValueError, match=message):
            write(TOKENS, 2)
    with pytest.raises(ValueError, match=message):
        complete(model, "hello")


def test_it_learns_a_text_and_writes_it_on(tmp_path):
    saying = b"a quick brown fox jumps over the lazy dog. "
    (tmp_path / "saying.txt").write_bytes(saying * 40)
    run = {
        "model": {"name": "gru", "dim": 48, "depth": 1},
        "data": {"name": "text", "path": str(tmp_path / "saying.txt"), "seq_len": 32, "batch_size": 16},
        "optimizer": {"lr": 0.02},
        "schedule": {"warmup": 0.1},
        "trainer": {"steps": 120, "device": "cpu"},
    }
    result = Trainer(RunConfig.of(run), quiet=True).fit()
    assert result.metrics["bits_per_byte"] < 1  # a letter by itself has more than 4
    text = result.model.generate(torch.tensor([list(saying[:10])]), 75)
    assert bytes(text[0].tolist()) == saying[:43] + saying[:42]
