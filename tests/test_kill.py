"""Runs that are killed at random moments, by the signal that nothing can catch, and still end in the same bits.

Three kills for each kind of model here; `ZOO_KILLS=10` asks for more.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.training.checkpoint import checkpoints, load_checkpoint

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("ZOO_KILLS", "3"))
RUNS = {
    "digits": [
        "configs/resnet/resnet20-digits.yaml",
        "trainer.epochs=null",
        f"trainer.steps={30 * KILLS}",
        "trainer.ema=0.99",
    ],
    "gan": ["configs/gan/gan-digits.yaml", f"trainer.steps={40 * KILLS}", "objective.features=null"],
    "gan_told_and_penalised": [
        "configs/gan/gan_conditional-digits.yaml",
        f"trainer.steps={40 * KILLS}",
        "objective.features=null",
        "objective.loss=hinge",
        "objective.r1=0.1",
        "objective.penalty_every=4",
        "model.spectral_norm=true",
        "model.discriminator_norm=layer",
    ],
    "diffusion": [
        "configs/unet/unet-digits.yaml",
        "model.channels=[16]",
        "model.attention_levels=[]",
        f"trainer.steps={40 * KILLS}",
        "trainer.ema=0.99",
        "objective.features=null",
    ],
    "vae": [
        "configs/vae/vae-digits.yaml",
        "trainer.epochs=null",
        f"trainer.steps={60 * KILLS}",
        "trainer.ema=0.99",
        "objective.features=null",
        f"objective.beta_warmup={40 * KILLS}",
    ],
    "sampled_neighbours": [
        "configs/graphsage/graphsage-block_model.yaml",
        f"trainer.steps={20 * KILLS}",
        "trainer.ema=0.99",
        "data.community_size=40",
    ],
    "gpt": ["configs/gpt2/gpt2-stdlib.yaml", f"trainer.steps={20 * KILLS}"],
}


def start(arguments, out):
    command = [sys.executable, "-m", "zoo", "train", *arguments, "data.workers=2", "trainer.checkpoint_every=4"]
    command += ["--out", str(out), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def kill_while_it_trains(process, out, moment):
    """SIGKILL the whole group `moment` seconds after the run made its next mark on the disk; True if it hit."""
    before = newest_mark(out)
    while newest_mark(out) == before and process.poll() is None:
        time.sleep(0.005)
    time.sleep(moment)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return alive


def newest_mark(out):
    folder = out / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(name, tmp_path):
    whole = start(RUNS[name], tmp_path / "whole")
    assert whole.wait(300) == 0, whole.stderr.read()
    whole.stderr.close()
    moments, hits = random.Random(0), 0
    for _ in range(KILLS):
        hits += kill_while_it_trains(start(RUNS[name], tmp_path / "cut"), tmp_path / "cut", moments.uniform(0, 0.8))
    last = start(RUNS[name], tmp_path / "cut")
    assert last.wait(300) == 0, last.stderr.read()
    last.stderr.close()
    assert hits >= KILLS - 1, "the run ended before it could be killed; give it more steps"
    expected, found = (load_checkpoint(checkpoints(tmp_path / run / "checkpoints")[0]) for run in ("whole", "cut"))
    assert expected[1]["step"] == found[1]["step"]
    assert set(expected[0]) == set(found[0])
    assert {key for key in expected[0] if not torch.equal(expected[0][key], found[0][key])} == set()
    assert (tmp_path / "cut" / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model" / "model.safetensors"
    ).read_bytes()
