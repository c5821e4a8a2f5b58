"""Text out of encoder-decoders, on the command line and in Python: what belongs to a prompt, without the prompt."""

import json

import pytest
import torch
import transformers
from tokenizers import processors
from toy_tokenizer import learnt
from toys import Points

import zoo
from zoo.cli import main
from zoo.nn.sampling import Sampling
from zoo.pipelines import complete
from zoo.tokenizer import ByteTokenizer
from zoo.training.data import IGNORE, Spec, Splits
from zoo.training.run import RunConfig

WORDS = {"house": "Haus", "tree": "Baum", "good": "schön", "night": "Nacht"}
SIZES = {"dim": 32, "depth": 1, "num_heads": 2, "mlp_dim": 64, "dropout": 0.0}


def row(tokens, length, filler=0):
    return [*tokens, *[filler] * (length - len(tokens))]


def pairs(config, copies=8):
    """Words and their translations as bytes, in the form that `seq2seq` learns from."""
    columns = {"source": [], "source_mask": [], "tokens": [], "target": []}
    for word, translation in WORDS.items():
        source, target = [*word.encode(), config.stop_token], [*translation.encode(), config.stop_token]
        columns["source"].append(row(source, 8))
        columns["source_mask"].append(row([True] * len(source), 8, False))
        columns["tokens"].append(row([config.start_token, *target[:-1]], 8))
        columns["target"].append(row(target, 8, IGNORE))
    tensors = {name: torch.tensor(rows).repeat(copies, 1) for name, rows in columns.items()}
    return Splits(spec=Spec(keys=tuple(tensors), vocab_size=256), train=Words(tensors), test=Words(tensors))


class Words(Points):
    def fetch(self, indices, rngs):
        return {name: tensor[list(indices)] for name, tensor in self.tensors.items()}


@pytest.fixture(scope="module", params=["transformer", "t5"])
def dictionary(request, tmp_path_factory):
    """The run of an encoder-decoder of bytes that has learnt four words by heart."""
    out = tmp_path_factory.mktemp("words") / "run"
    more = {"head_dim": 16} if request.param == "t5" else {}
    sections = {
        "model": {"name": request.param, "vocab_size": 256, **SIZES, **more},
        "objective": {"name": "seq2seq", "label_smoothing": 0.0},
        "data": {"batch_size": 16},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"steps": 60, "device": "cpu"},
    }
    data = pairs(zoo.config(request.param))
    result = zoo.Trainer(RunConfig.of(sections), data=data, out=out, quiet=True).fit()
    assert result.metrics["exact_match"] == 1.0
    return out


@pytest.mark.parametrize("options", [[], ["--beams", 3], ["--max-new-tokens", 9]], ids=["likeliest", "beams", "length"])
def test_a_run_writes_what_belongs_to_the_prompt_and_nothing_else(dictionary, options, run):
    for word, translation in WORDS.items():
        assert run("generate", dictionary, word, *options) == f"{translation}\n"
    found = json.loads(run("generate", dictionary, "good", *options, "--json"))
    assert found == {"prompt": "good", "completion": "schön", "text": "schön"}


def test_a_text_ends_after_as_many_tokens_as_are_asked_for(dictionary, run):
    for options in ([], ["--beams", 3]):
        assert run("generate", dictionary, "house", "--max-new-tokens", 2, *options) == "Ha\n"


def test_what_belongs_to_a_prompt_is_drawn_where_a_temperature_is_given(dictionary, run):
    drawn = [run("generate", dictionary, "house", "--temperature", 40, "--seed", seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    model = zoo.load(dictionary)
    assert "".join(complete(model, "house", sampling=Sampling(temperature=0.01))) == "Haus"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What transformers saves of a small T5 and its tokenizer, which ends each text with its stop token."""
    path = tmp_path_factory.mktemp("t5")
    made = learnt("<pad>", "</s>")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(path)
    return path


@pytest.mark.parametrize("beams", [1, 3])
def test_a_folder_of_transformers_writes_in_the_tokens_of_its_tokenizer(folder, beams, run):
    model = zoo.create(f"local-dir:{folder}").eval()
    reader = zoo.tokenizer(model)
    source = torch.tensor([reader.encode("def f")[0]])
    assert source[0, -1] == 1
    expected = reader.decode(model.generate(source, 12, num_beams=beams)[0].tolist())
    words = ["generate", f"local-dir:{folder}", "def f", "--max-new-tokens", 12]
    assert run(*words, "--beams", beams) == f"{expected}\n"


def test_a_t5_that_fills_gaps_of_bytes_is_asked_and_answers_in_sentinels(run, tmp_path, no_report):
    (tmp_path / "rhyme.txt").write_text("one two three four five once i caught a fish alive\n" * 40)
    (tmp_path / "empty.yaml").write_text("{}\n")
    words = ["model={name: t5, dim: 16, depth: 1, num_heads: 2, head_dim: 8, mlp_dim: 16, vocab_size: 356}"]
    words += ["data.name=text", f"data.path={tmp_path / 'rhyme.txt'}", "data.seq_len=32", "objective=span_corruption"]
    words += ["trainer.steps=80", "optimizer.lr=0.02"]
    run("train", tmp_path / "empty.yaml", *words, "--out", tmp_path / "run", "-q")
    found = json.loads(run("generate", tmp_path / "run", "one two <extra_id_0> five once", "--json"))
    assert found["text"].startswith("<extra_id_0>")
    reader = zoo.tokenizer(zoo.load(tmp_path / "run"))
    assert reader.encode("a<extra_id_0>b<extra_id_99>c<extra_id_100>")[0][:5] == [97, 355, 98, 256, 99]
    assert reader.decode(reader.encode("größer<extra_id_7> <extra_id_100>")[0]) == "größer<extra_id_7> <extra_id_100>"
    assert max(ByteTokenizer().encode("<extra_id_0>")[0]) < 128


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gpt2.stdlib", "x", "--beams", "2"], "GPT2 continues texts, and only encoder-decoders search with beams"),
        (["{run}", "x", "--beams", "2", "--temperature", "1"], "num_beams 2 searches and draws nothing"),
        (["{run}", "x", "--top-k", "2"], "do nothing at temperature 0; give a temperature"),
        (["{run}", ""], "the prompt is empty"),
        (["{run}", "x", "--beams", "0"], "--beams"),
        (["{run}", "x", "--max-new-tokens", "-1"], "max_new_tokens -1 is negative"),
    ],
    ids=["beams of a decoder", "beams that draw", "choice of one", "nothing", "no beam", "less than nothing"],
)
def test_options_that_do_not_go_together_are_one_line(words, message, dictionary, capsys):
    assert main(["generate", *(word.format(run=dictionary) for word in words)]) == 2
    out, line = capsys.readouterr()
    assert (out, line.count("\n"), message in line) == ("", 1, True), line
