"""Two processes compute what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import read
from small_graphs import graph_trainer
from test_judging import PAIRED, drawer
from test_resume import final
from test_trainer import TwoCounts
from towers import contrast, pictured
from toys import Net, splits, trainer

from zoo.training.log import read_log
from zoo.training.objectives import NoOptions

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from toys import Net, Classify, splits, trainer
from towers import contrast, pictured
from test_trainer import Alternate, TwoCounts
from test_judging import drawer
from test_resume import Crash, crash_at
from zoo.training.objectives import NoOptions
from samples import read
from small_graphs import graph_trainer

if __name__ == "__main__":
    data = splits(val=True)
    kinds = {{"plain": Classify, "phases": Alternate, "counts": TwoCounts}}
    for name, kind in kinds.items():
        options = dict(data=data, batch_size=4, steps=13, clip_norm=1.0, eval_every=13, out={out!r} + "/" + name)
        trainer(objective=kind(NoOptions(), data.spec), **options).fit()
    trainer(data=data, batch_size=2, accumulate=2, out={out!r} + "/accumulated", steps=13, clip_norm=1.0).fit()
    drawer(all_pairs=True, batch_size=4, out={out!r} + "/judged").fit()
    for loss in ("softmax", "sigmoid"):
        for size, parts in ((6, 1), (2, 3)):
            where = {out!r} + f"/{{loss}}_{{parts}}"
            contrast(None, pictured(prompts=True), loss, batch_size=size, accumulate=parts, steps=13, out=where).fit()
    for name, options in {graphs!r}.items():
        graph_trainer(read("block_model", **options), batch_size=3, out={out!r} + "/" + name, steps=13).fit()
    norm = lambda: Net(norm=True, dropout=0.3)
    options = dict(data=data, batch_size=4, steps=13, checkpoint_every=1, ema=0.9)
    trainer(norm(), out={out!r} + "/whole", **options).fit()
    try:
        crash_at(trainer(norm(), out={out!r} + "/cut", **options), 5).fit()
    except Crash:
        trainer(norm(), out={out!r} + "/cut", **options).fit(resume=True)
"""

GRAPHS = {
    "graph": {"community_size": 20, "labelled": 0.5},
    "sampled": {"community_size": 20, "labelled": 0.5, "neighbours": [3, 2]},
    "links": {"community_size": 20, "links": True},
}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """The folder in which two gloo ranks have left their runs."""
    out = tmp_path_factory.mktemp("ranks")
    program = out / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent), out=str(out), graphs=GRAPHS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return out


def apart(first, second):
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_ranks_give_one_process_s_weights(two_ranks, tmp_path, name):
    data = splits(val=True)
    trainer(data=data, batch_size=8, out=tmp_path / "one", steps=13, clip_norm=1.0).fit()
    weights = {n: t for n, t in final(tmp_path / "one").items() if n.startswith("model/")}
    assert apart(weights, final(two_ranks / name)) < 1e-6


def test_two_ranks_divide_by_the_global_count_of_every_term(two_ranks, tmp_path):
    data = splits(val=True)
    trainer(
        data=data, objective=TwoCounts(NoOptions(), data.spec), batch_size=8, out=tmp_path, steps=13, clip_norm=1.0
    ).fit()
    weights = {n: t for n, t in final(tmp_path).items() if n.startswith("model/")}
    assert apart(weights, final(two_ranks / "counts")) < 1e-6


def test_two_ranks_measure_what_one_process_measures(two_ranks, tmp_path):
    trainer(data=splits(val=True), batch_size=8, out=tmp_path / "one", steps=13, clip_norm=1.0, eval_every=13).fit()
    one, two = (list(read_log(folder / "log.jsonl")) for folder in (tmp_path / "one", two_ranks / "plain"))
    assert [(event["step"], event["split"]) for event in one] == [(event["step"], event["split"]) for event in two]
    for mine, theirs in zip(one, two, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


@pytest.mark.parametrize("name", ["graph", "sampled"])
def test_two_ranks_learn_the_nodes_of_a_graph_as_one_process_does(two_ranks, tmp_path, name):
    graph_trainer(read("block_model", **GRAPHS[name]), batch_size=6, out=tmp_path, steps=13).fit()
    weights = {n: t for n, t in final(tmp_path).items() if n.startswith("model/")}
    assert apart(weights, final(two_ranks / name)) < 1e-5


def test_two_ranks_rank_all_links_together(two_ranks):
    data = read("block_model", **GRAPHS["links"])
    weights = {n.removeprefix("model/"): t for n, t in final(two_ranks / "links").items() if n.startswith("model/")}
    alone = graph_trainer(data)
    alone.model.load_state_dict(weights)
    found = list(read_log(two_ranks / "links" / "log.jsonl"))[-1]
    expected = alone.evaluate()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_two_ranks_show_the_judge_each_image_once(two_ranks, tmp_path):
    alone = drawer(all_pairs=True, out=tmp_path)
    alone.fit()
    found, expected = (list(read_log(folder / "log.jsonl"))[-1] for folder in (two_ranks / "judged", tmp_path))
    names = ("elbo", "frechet_distance", "classes", "confident", *PAIRED)
    assert {name: found[name] for name in names} == pytest.approx({name: expected[name] for name in names}, rel=1e-4)


def test_two_ranks_with_phases_agree_with_one_process(two_ranks, tmp_path):
    from test_trainer import Alternate

    data = splits(val=True)
    trainer(
        data=data, objective=Alternate(NoOptions(), data.spec), batch_size=8, out=tmp_path, steps=13, clip_norm=1.0
    ).fit()
    weights = {n: t for n, t in final(tmp_path).items() if n.startswith("model/")}
    assert apart(weights, final(two_ranks / "phases")) < 1e-6


def test_two_ranks_resume_to_the_same_bits(two_ranks):
    whole, cut = final(two_ranks / "whole"), final(two_ranks / "cut")
    assert {name for name in whole if not torch.equal(whole[name], cut[name])} == set()
    assert Net(norm=True).norm.running_mean.shape == whole["model/norm.running_mean"].shape


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_contrast_has_the_samples_of_all_ranks_and_parts_as_rivals(two_ranks, tmp_path, loss, parts):
    alone = contrast(None, pictured(prompts=True), loss, batch_size=12, steps=13, out=tmp_path)
    metrics = alone.fit().metrics
    weights = {n: t for n, t in final(tmp_path).items() if n.startswith("model/")}
    assert apart(weights, final(two_ranks / f"{loss}_{parts}")) < 1e-6
    events = [list(read_log(folder / "log.jsonl")) for folder in (tmp_path, two_ranks / f"{loss}_{parts}")]
    assert [event["loss"] for event in events[1]] == pytest.approx([event["loss"] for event in events[0]], rel=1e-4)
    assert {name: events[1][-1][name] for name in metrics} == pytest.approx(metrics, rel=1e-4)
