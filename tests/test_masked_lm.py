"""Masked language modelling and span corruption: what is hidden, what is asked for, and how it is counted."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.training.data import Spec
from zoo.training.objectives import Context
from zoo.training.objectives.masked_lm import MaskedLM, MaskedLMConfig
from zoo.training.objectives.span_corruption import SpanCorruption, SpanCorruptionConfig, _pieces
from zoo.training.random import Rows

BYTES = Spec(keys=("tokens", "target"), vocab_size=256)
MASKED = Spec(keys=("tokens", "target", "mask"), vocab_size=256)


def context(rows, epoch=0, first=0):
    samples = [(epoch, first + row) for row in range(rows)]
    return Context(step=0, rows=Rows(0, "train/", samples, torch.device("cpu")), training=True)


def tokens(rows=8, seq=400):
    return torch.randint(1, 200, (rows, seq), generator=torch.Generator().manual_seed(3))


class Recorder(nn.Module):
    """Remembers what it reads; its logits are those of a table."""

    def __init__(self, vocab=256):
        super().__init__()
        self.table = nn.Embedding(vocab, vocab)

    def forward(self, tokens, source=None, mask=None, source_mask=None):
        self.seen, self.source, self.mask, self.source_mask = tokens, source, mask, source_mask
        return self.table(tokens)


def masked(batch, ctx, **options):
    objective, model = MaskedLM(MaskedLMConfig(**options), BYTES), Recorder()
    phase = objective.phases()[0]
    return model, objective.loss(phase, {"model": model}, batch, ctx), objective.counts(phase, batch, ctx)


def test_a_share_of_tokens_is_chosen_and_most_of_it_hidden():
    batch = {"tokens": tokens(64, 500)}
    model, loss, counts = masked(batch, context(64))
    total, count, weight = loss.terms["nll"]
    assert counts["nll"] == count
    assert weight == 1
    assert count / batch["tokens"].numel() == pytest.approx(0.15, abs=0.01)
    hidden = model.seen == 255
    changed = model.seen != batch["tokens"]
    assert hidden.sum() / count == pytest.approx(0.8, abs=0.03)
    assert (changed & ~hidden).sum() / count == pytest.approx(0.1, abs=0.02)
    assert 4 < total / count < 8


def test_the_loss_is_that_of_the_chosen_tokens_alone():
    batch = {"tokens": tokens(4, 64)}
    objective, model = MaskedLM(MaskedLMConfig(), BYTES), Recorder()
    chosen = objective._chosen(batch, context(4))
    total, count, _ = objective.loss(objective.phases()[0], {"model": model}, batch, context(4)).terms["nll"]
    expected = F.cross_entropy(model.table(model.seen)[chosen], batch["tokens"][chosen], reduction="sum")
    torch.testing.assert_close(total, expected)
    assert count == chosen.sum()


def test_a_text_is_masked_anew_in_every_epoch_and_alike_whatever_the_batch():
    batch = {"tokens": tokens(6, 100)}
    first, again, later = (masked(batch, context(6, epoch))[0].seen for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    alone = masked({"tokens": batch["tokens"][4:5]}, context(1, first=4))[0].seen
    assert torch.equal(alone, first[4:5])


def test_nothing_is_asked_where_there_is_no_token():
    mask = torch.arange(100).expand(8, -1) < torch.tensor([100, 1, 50, 7, 20, 99, 3, 64])[:, None]
    batch = {"tokens": tokens(8, 100), "mask": mask, "target": tokens(8, 100)}
    model, _, counts = masked(batch, context(8), rate=1.0)
    assert counts["nll"] == mask.sum()
    assert torch.equal(model.mask, mask)
    assert torch.equal(model.seen[~mask], batch["tokens"][~mask])


def test_microbatches_of_masked_texts_add_up_to_the_batch():
    batch = {"tokens": tokens(6, 50)}
    _, whole, _ = masked(batch, context(6))
    torch.manual_seed(0)
    model, objective = Recorder(), MaskedLM(MaskedLMConfig(), BYTES)
    parts = [
        objective.loss(
            objective.phases()[0], {"model": model}, {"tokens": batch["tokens"][a:b]}, context(b - a, first=a)
        )
        for a, b in ((0, 2), (2, 6))
    ]
    assert sum(part.terms["nll"][1] for part in parts) == whole.terms["nll"][1]


@torch.no_grad()
def test_evaluation_gives_nats_hits_and_bits():
    batch, objective, model = {"tokens": tokens(4, 80)}, MaskedLM(MaskedLMConfig(), BYTES), Recorder()
    model.table.weight.zero_()
    metrics = objective.summarize(
        {name: (total, torch.as_tensor(count)) for name, (total, count) in
         objective.evaluate({"model": model}, batch, context(4)).items()}
    )  # fmt: skip
    assert metrics["loss"] == pytest.approx(torch.tensor(256.0).log().item())
    assert metrics["bits_per_byte"] == pytest.approx(8)
    assert metrics["accuracy"] == 0


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ({}, Spec(keys=("image",)), "needs data of tokens, with a vocabulary, but these give image"),
        ({}, Spec(keys=("tokens",), vocab_size=1000), "objective.mask_token is missing"),
        (
            {"mask_token": 1000},
            Spec(keys=("tokens",), vocab_size=1000),
            "mask_token 1000 is not in a vocabulary of 1000",
        ),
    ],
    ids=["pictures", "no mask token", "beyond"],
)
def test_data_that_cannot_be_masked_are_refused(options, spec, message):
    with pytest.raises(ValueError, match=message):
        MaskedLM(MaskedLMConfig(**options), spec)
    with pytest.raises(ValueError, match="rate 0 is not in"):
        MaskedLMConfig(rate=0)


def test_source_and_target_together_are_the_text():
    objective, text = SpanCorruption(SpanCorruptionConfig(), BYTES), tokens(16, 100)
    source, read, target, _ = objective.corrupt(text, context(16))
    assert source.shape == (16, 100 - 15 + 5 + 1)
    assert target.shape == read.shape == (16, 15 + 5 + 1)
    assert (source[:, -1] == 1).all()
    assert (target[:, -1] == 1).all()
    assert (read[:, 0] == 0).all()
    assert torch.equal(read[:, 1:], target[:, :-1])
    for row in range(16):
        pieces, piece = {}, None
        for token in target[row, :-1].tolist():
            if token > 255:
                pieces[token] = piece = []
            else:
                piece.append(token)
        assert list(pieces) == [355, 354, 353, 352, 351]
        assert all(pieces.values())
        again = [t for token in source[row, :-1].tolist() for t in pieces.get(token, [token])]
        assert again == text[row].tolist()


def test_every_way_of_cutting_is_as_likely():
    random = torch.rand(6000, 4, generator=torch.Generator().manual_seed(0))
    lengths = [tuple(row) for row in _pieces(random, 5, 3).tolist()]
    shares = {way: lengths.count(way) / 6000 for way in set(lengths)}
    assert len(shares) == 6  # the compositions of 5 into 3 parts
    assert all(share == pytest.approx(1 / 6, abs=0.02) for share in shares.values())


@pytest.mark.parametrize("seq", [2, 3, 7, 20, 513])
@pytest.mark.parametrize("rate", [0.01, 0.15, 0.5, 0.9])
def test_texts_of_any_length_are_cut(seq, rate):
    objective = SpanCorruption(SpanCorruptionConfig(rate=rate), BYTES)
    source, _, target, _ = objective.corrupt(tokens(3, seq), context(3))
    sentinels = (source > 255).sum(1)
    assert torch.equal(sentinels, (target > 255).sum(1))
    assert source.shape[1] + target.shape[1] == seq + 2 * sentinels[0] + 2
    assert objective.counts(objective.phases()[0], {"tokens": tokens(3, seq)}, context(3))["nll"] == target.numel()


def test_the_decoder_is_judged_by_the_stretches():
    objective, model, batch = SpanCorruption(SpanCorruptionConfig(), BYTES), Recorder(356), {"tokens": tokens(4, 40)}
    total, count, _ = objective.loss(objective.phases()[0], {"model": model}, batch, context(4)).terms["nll"]
    made = objective.corrupt(batch["tokens"], context(4))
    assert torch.equal(model.source, made.source)
    expected = F.cross_entropy(model.table(made.tokens).flatten(0, 1), made.target.flatten(), reduction="sum")
    torch.testing.assert_close(total, expected)
    assert count == made.target.numel()
    with pytest.raises(ValueError, match=r"sentinels begin at 355; set model\.vocab_size=356"):
        objective.build(zoo.create("gpt2", vocab_size=256, dim=8, depth=1, num_heads=1))
    with pytest.raises(ValueError, match="texts of 1 token leave nothing to cut"):
        objective.corrupt(tokens(2, 1), context(2))
    many = SpanCorruption(SpanCorruptionConfig(rate=0.5, span=1.0), BYTES)
    with pytest.raises(ValueError, match="would lose 150 stretches, and 100 can be told apart"):
        many.corrupt(tokens(2, 300), context(2))


def named(count, words=50):
    """Data whose tokenizer has so many sentinels above its words."""
    added = [{"id": words + k, "content": f"<extra_id_{count - 1 - k}>"} for k in range(count)]
    files = {"tokenizer.json": json.dumps({"added_tokens": added}).encode()}
    return Spec(keys=("tokens", "target"), vocab_size=words + count + 7, tokenizer=files)


def test_sentinels_are_those_of_the_tokenizer_and_never_words():
    objective = SpanCorruption(SpanCorruptionConfig(), named(5))
    assert objective.sentinel == 54
    assert (objective.corrupt(tokens(2, 100), context(2)).target == 54).any()
    with pytest.raises(ValueError, match="would lose 6 stretches, and 5 can be told apart"):
        objective.corrupt(tokens(2, 120), context(2))
    with pytest.raises(ValueError, match=r"no '<extra_id_0>'.* or name the first of 100 .* by objective\.sentinel"):
        SpanCorruption(SpanCorruptionConfig(), named(0))
    for spec, sentinel in ((named(0), 30), (Spec(keys=("tokens",), vocab_size=31), None), (BYTES, 286)):
        with pytest.raises(ValueError, match="would lose 60 stretches, and 31 can be told apart"):
            SpanCorruption(SpanCorruptionConfig(sentinel=sentinel), spec).corrupt(tokens(1, 1200), context(1))


def test_texts_begin_and_end_with_the_model_s_own_tokens():
    model = zoo.create("transformer", vocab_size=356, dim=8, depth=1, num_heads=1, start_token=7, stop_token=9)
    objective = SpanCorruption(SpanCorruptionConfig(), BYTES)
    objective.build(model)
    source, read, target = objective.corrupt(tokens(3, 40), context(3))[:3]
    assert (read[:, 0] == 7).all()
    assert (target[:, -1] == 9).all()
    assert (source[:, -1] == 9).all()
    with pytest.raises(ValueError, match=r"objective\.start_token 0 is not the model's, which is 7; leave it out"):
        SpanCorruption(SpanCorruptionConfig(start_token=0), BYTES).build(model)


LENGTHS = torch.tensor([100, 1, 50, 7, 20, 99, 2, 50])


def test_padding_is_neither_cut_out_nor_read():
    objective, text, mask = SpanCorruption(SpanCorruptionConfig(), MASKED), tokens(8, 100), torch.arange(100)
    batch = {"tokens": text, "mask": mask < LENGTHS[:, None]}
    model = Recorder(356)
    total, count, _ = objective.loss(objective.phases()[0], {"model": model}, batch, context(8)).terms["nll"]
    assert objective.counts(objective.phases()[0], batch, context(8))["nll"] == count
    made = objective._corrupt_padded(batch, context(8))
    assert torch.equal(model.source, made.source)
    assert torch.equal(model.source_mask, made.source_mask)
    expected = torch.tensor(0.0)
    for row, length in enumerate(LENGTHS.tolist()):
        asked = made.target[row] != -100
        if length < 2:
            assert not asked.any()
            continue
        alone = objective.corrupt(text[row : row + 1, :length], context(1, first=row))
        assert made.source[row, made.source_mask[row]].tolist() == alone.source[0].tolist()
        assert made.target[row, asked].tolist() == alone.target[0].tolist()
        assert made.tokens[row, asked].tolist() == alone.tokens[0].tolist()
        expected += F.cross_entropy(model.table(alone.tokens[0]), alone.target[0], reduction="sum")
    torch.testing.assert_close(total, expected)
    assert count == sum(sum(objective._sizes(n)) + 1 for n in LENGTHS.tolist() if n > 1)


@pytest.mark.parametrize(
    ("made", "argument"),
    [(MaskedLM(MaskedLMConfig(), MASKED), "mask"), (SpanCorruption(SpanCorruptionConfig(), MASKED), "source_mask")],
    ids=["masked", "cut"],
)
def test_a_model_that_would_read_padding_is_refused(made, argument):
    with pytest.raises(ValueError, match=f"the data have a mask, and GPT2 takes no {argument}, .*documents=false"):
        made.build(zoo.create("gpt2", vocab_size=356, dim=8, depth=1, num_heads=1))
    assert made.build(Recorder(356)) == {}
