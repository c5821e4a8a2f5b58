"""Checkpoints: exact to the bit, whole or absent, and never trusted when damaged."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from toys import Net, splits, trainer

from zoo.config import ConfigError
from zoo.storage import DamagedFile
from zoo.training import checkpoint
from zoo.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint, verify
from zoo.training.interrupt import Interrupted


class Crash(Exception):
    """Stands for whatever ends a process."""


def crash_at(run, step):
    """Make a trainer fail after the checkpoint of a step."""
    save = run._save

    def failing(state, here):
        save(state, here)
        if state.step >= step:
            raise Crash

    run._save = failing
    return run


def options(workers=0):
    return {"steps": 13, "checkpoint_every": 1, "ema": 0.9, "clip_norm": 1.0, "workers": workers}


def final(folder):
    tensors, facts = load_checkpoint(checkpoints(folder / "checkpoints")[0])
    assert facts["step"] == 13
    return tensors


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 12, 13], ids=lambda s: f"after_step_{s}")  # an epoch has 6 steps
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, step, workers):
    trainer(Net(norm=True, dropout=0.3), out=tmp_path / "whole", **options()).fit()
    with pytest.raises(Crash):
        crash_at(trainer(Net(norm=True, dropout=0.3), out=tmp_path / "cut", **options(workers)), step).fit()
    trainer(Net(norm=True, dropout=0.3), out=tmp_path / "cut", **options(2 - workers)).fit(resume=True)
    whole, cut = final(tmp_path / "whole"), final(tmp_path / "cut")
    assert set(whole) == set(cut)
    assert {name for name in whole if not torch.equal(whole[name], cut[name])} == set()
    assert any(name.startswith("optimizer/") for name in whole)
    assert any(name.startswith("ema/") for name in whole)


def test_the_log_of_a_resumed_run_tells_each_step_once(tmp_path):
    with pytest.raises(Crash):
        crash_at(trainer(out=tmp_path, steps=8, log_every=1, checkpoint_every=3), 3).fit()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "train", "loss": 1.0}\n{"step": 5, "spl')
    trainer(out=tmp_path, steps=8, log_every=1, checkpoint_every=3).fit(resume=True)
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["split"] == "train"] == list(range(1, 9))
    assert [event["split"] for event in events].count("test") == 1
    assert events == sorted(events, key=lambda event: event["time"])


def test_resuming_where_nothing_was_saved_begins(tmp_path):
    assert trainer(out=tmp_path / "new").fit(resume=True).steps == 6


def test_an_existing_run_is_not_overwritten(tmp_path):
    trainer(out=tmp_path).fit()
    with pytest.raises(ConfigError, match="already holds a run; add --resume"):
        trainer(out=tmp_path).fit()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ConfigError, match="is not empty"):
        trainer(out=tmp_path / "other").fit()


def test_a_run_is_not_resumed_with_another_config(tmp_path):
    trainer(out=tmp_path).fit()
    with pytest.raises(ConfigError, match=r"begun with trainer\.seed 0, now it is 1"):
        trainer(out=tmp_path, seed=1).fit(resume=True)
    assert trainer(out=tmp_path, workers=1, keep=3).fit(resume=True).steps == 6


def test_a_run_is_not_resumed_with_other_kernels_for_they_round_otherwise(tmp_path):
    trainer(out=tmp_path).fit()
    with pytest.raises(ConfigError, match="begun with kernels auto, now it is reference"):
        trainer(out=tmp_path, kernels="reference").fit(resume=True)


def test_a_run_that_is_older_than_an_option_had_its_default(tmp_path):
    trainer(out=tmp_path).fit()
    config = tmp_path / "config.yaml"
    older = re.sub(r"^(kernels|  nesterov|  keep_best): .*\n", "", config.read_text(), flags=re.MULTILINE)
    assert older.count("\n") == config.read_text().count("\n") - 3
    config.write_text(older)
    assert trainer(out=tmp_path).fit(resume=True).steps == 6


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "truncated": lambda folder: os.truncate(folder / "state.safetensors", 100),
    "bit_flipped": lambda folder: flip(folder / "state.safetensors"),
    "facts_flipped": lambda folder: flip(folder / "state.json"),
    "file_missing": lambda folder: (folder / "state.safetensors").unlink(),
    "manifest_missing": lambda folder: (folder / "MANIFEST.json").unlink(),
    "manifest_not_json": lambda folder: (folder / "MANIFEST.json").write_text("{"),
}


def test_a_log_of_damaged_bytes_is_gone_on_with(tmp_path):
    with pytest.raises(Crash):
        crash_at(trainer(out=tmp_path, steps=8, log_every=1, checkpoint_every=3), 3).fit()
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 2, \xff\xfe\n[1]\n')
    trainer(out=tmp_path, steps=8, log_every=1, checkpoint_every=3).fit(resume=True)
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["split"] == "train"] == list(range(1, 9))


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(tmp_path):
    trainer(out=tmp_path, steps=6, checkpoint_every=2).fit()
    found = checkpoints(tmp_path / "checkpoints")
    before = (tmp_path / "log.jsonl").read_bytes()
    for folder in found:
        flip(folder / "state.safetensors")
    with pytest.raises(DamagedFile, match=rf"no checkpoint is whole: .*{found[0].name}.*another --out"):
        trainer(out=tmp_path, steps=6, checkpoint_every=2).fit(resume=True)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert checkpoints(tmp_path / "checkpoints") == found


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage, capfd):
    trainer(out=tmp_path / "whole", steps=6, checkpoint_every=2).fit()
    with pytest.raises(Crash):
        crash_at(trainer(out=tmp_path / "cut", steps=6, checkpoint_every=2), 4).fit()
    newest = checkpoints(tmp_path / "cut" / "checkpoints")[0]
    damage(newest)
    assert [problem is None for _, problem in verify(tmp_path / "cut" / "checkpoints")] == [False, True]
    with pytest.raises(DamagedFile, match=newest.name):
        load_checkpoint(newest)
    run = trainer(out=tmp_path / "cut", steps=6, checkpoint_every=2)
    run.quiet = False
    run.fit(resume=True)
    said = capfd.readouterr().err
    assert "skipped a damaged checkpoint" in said
    assert newest.name in said
    assert "resumed at step 2" in said
    whole, cut = (load_checkpoint(checkpoints(tmp_path / name / "checkpoints")[0])[0] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    "error", [SafetensorError("Error: No space left on device (os error 28)"), OSError(errno.ENOSPC, "full")]
)
def test_a_full_disk_keeps_the_old_checkpoints_and_leaves_no_debris(tmp_path, monkeypatch, error):
    save_checkpoint(tmp_path, 1, {"a": torch.ones(3)}, {}, keep=2)

    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"No space left|full") as caught:
        save_checkpoint(tmp_path, 2, {"a": torch.zeros(3)}, {}, keep=2)
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load_checkpoint(tmp_path / "step-00000001")[0]["a"].tolist() == [1, 1, 1]


def test_what_a_crash_left_half_written_is_cleared_away(tmp_path):
    trainer(out=tmp_path, steps=2).fit()
    (tmp_path / "checkpoints" / "step-00000009.tmp-99999999-0123abcd").mkdir()
    trainer(out=tmp_path, steps=2).fit(resume=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001", "step-00000002"]


def test_tied_tensors_are_stored_once_and_come_back_under_both_names(tmp_path):
    shared = torch.arange(4.0)
    path = save_checkpoint(tmp_path, 1, {"embed": shared, "head": shared, "view": shared[:2]}, {}, keep=1)
    tensors, _ = load_checkpoint(path)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "embed": [0, 1, 2, 3], "head": [0, 1, 2, 3], "view": [0, 1],
    }  # fmt: skip
    assert (path / "state.safetensors").stat().st_size < 250


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from toys import Net, trainer
if __name__ == "__main__":
    trainer(Net(norm=True, dropout=0.3), out={out!r}, steps=4000, workers=2, checkpoint_every=1000).fit(resume=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_a_signal_to_the_whole_group_saves_before_the_process_ends(tmp_path, number):
    """The workers get the signal too, as from a job scheduler; they must not die before the checkpoint is there."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent), out=str(tmp_path / "run")))
    process = subprocess.Popen([sys.executable, program], start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        log = tmp_path / "run" / "log.jsonl"
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") > 1):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number, process.stderr.read()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
    saved = checkpoints(tmp_path / "run" / "checkpoints")[0]
    step = load_checkpoint(saved)[1]["step"]
    assert 0 < step < 4000
    assert step % 1000 != 0


def test_a_signal_ends_fit_with_the_shell_s_code(tmp_path):
    run = trainer(out=tmp_path, steps=1000, checkpoint_every=1000)
    step = run._step

    def signalled(state, *rest):
        step(state, *rest)
        if state.step == 2:
            signal.raise_signal(signal.SIGTERM)

    run._step = signalled
    with pytest.raises(Interrupted) as caught:
        run.fit()
    assert caught.value.code == 143
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000003"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(data=splits(val=True)).fit()
    assert list(tmp_path.iterdir()) == []
