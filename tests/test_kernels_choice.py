"""Which implementation runs: `use`, `status`, and machines without Triton."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from kernel_runs import FUSED, OPS

from zoo import kernels
from zoo.kernels import op as house
from zoo.kernels.op import INTERPRETED, Op

CHUNKED = Op(name="probe", reference=lambda *_: "reference", chunked=lambda *_: "chunked")
PROBE = Op(
    name="probe",
    reference=lambda *_: "reference",
    fused=lambda *_: "fused",
    refuses=lambda x: "seven is too many" if len(x) == 7 else None,
)


@pytest.fixture
def interpreted(monkeypatch):
    """As if kernels could run on the CPU."""
    monkeypatch.setattr(house, "INTERPRETED", True)
    monkeypatch.setattr(house, "HAS_TRITON", True)


def test_auto_takes_the_fastest_that_can_run(interpreted):
    assert PROBE(torch.ones(2)) == "fused"
    assert PROBE(torch.ones(2, dtype=torch.float64)) == "reference"
    assert PROBE(torch.ones(7)) == "reference"
    assert CHUNKED(torch.ones(2)) == "chunked"
    with kernels.use("reference"):
        assert PROBE(torch.ones(2)) == CHUNKED(torch.ones(2)) == "reference"


@pytest.mark.parametrize(
    ("op", "x", "why"),
    [
        (PROBE, torch.ones(7), "seven is too many"),
        (PROBE, torch.ones(2, dtype=torch.float64), "an argument is float64, and kernels take at most float32"),
        (CHUNKED, torch.ones(2), "there is no kernel of it yet"),
    ],
)
def test_fused_raises_with_the_reason(op, x, why, interpreted):
    with kernels.use("fused"), pytest.raises(ValueError, match=f"^probe cannot run fused: {why}; .*use.'auto'.$"):
        op(x)


def test_without_a_gpu_or_triton_fused_says_so(monkeypatch):
    monkeypatch.setattr(house, "INTERPRETED", False)
    monkeypatch.setattr(house, "HAS_TRITON", True)
    with kernels.use("fused"), pytest.raises(ValueError, match="an argument is on the cpu, and kernels need a GPU"):
        PROBE(torch.ones(2))
    monkeypatch.setattr(house, "HAS_TRITON", False)
    with kernels.use("fused"), pytest.raises(ValueError, match="triton is not installed"):
        PROBE(torch.ones(2))
    assert PROBE(torch.ones(2)) == "reference"


def test_use_ends_with_its_block_even_after_an_error(interpreted):
    def nested():
        assert PROBE(torch.ones(2)) == "reference"
        with kernels.use("auto"):
            assert PROBE(torch.ones(2)) == "fused"
        assert PROBE(torch.ones(2)) == "reference"
        raise RuntimeError

    with pytest.raises(RuntimeError), kernels.use("reference"):
        nested()
    assert PROBE(torch.ones(2)) == "fused"


def test_blocks_of_two_threads_may_end_in_any_order(interpreted):
    first, second = kernels.use("auto"), kernels.use("reference")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert PROBE(torch.ones(2)) == "reference"
    second.__exit__(None, None, None)
    assert PROBE(torch.ones(2)) == "fused"


def test_a_choice_holds_in_threads_that_began_before_and_after(interpreted):
    """Autograd computes the forward pass again in threads of its own, where a block's activations are not kept."""
    with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as late:
        assert early.submit(PROBE, torch.ones(2)).result() == "fused"
        with kernels.use("reference"):
            assert early.submit(PROBE, torch.ones(2)).result() == "reference"
            assert late.submit(PROBE, torch.ones(2)).result() == "reference"


def test_an_unknown_mode_is_an_error_that_names_the_nearest():
    message = "^kernels 'refrence' is not among auto, reference, fused; did you mean reference"
    with pytest.raises(ValueError, match=message), kernels.use("refrence"):
        pass


def test_a_compiled_function_follows_the_choice(interpreted):
    torch.compiler.reset()
    op = Op(name="probe", reference=lambda x: x + 1, fused=lambda x: x + 2)
    compiled = torch.compile(lambda x: op(x), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)) == 2
    with kernels.use("reference"):
        assert compiled(torch.zeros(1)) == 1
    assert compiled(torch.zeros(1)) == 2


@pytest.mark.parametrize("has_triton", [True, False])
@pytest.mark.parametrize("runs_interpreted", [True, False])
@pytest.mark.parametrize("op", [PROBE, CHUNKED])
def test_status_tells_what_runs(op, has_triton, runs_interpreted, monkeypatch):
    monkeypatch.setattr(house, "HAS_TRITON", has_triton)
    monkeypatch.setattr(house, "INTERPRETED", runs_interpreted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status = house.status_of(op)
    assert status.cpu == op(torch.ones(2))
    assert status.gpu == ("chunked" if op is CHUNKED else "fused" if has_triton else "reference")
    assert (status.why == "") == (status.cpu == "fused")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (house.status_of(op).why == "") == (status.gpu == "fused")


def test_status_lists_every_operation():
    assert [status.op for status in kernels.status()] == [op.name for op in OPS]
    assert {op.name for op in OPS} <= set(kernels.__all__)
    for status, op in zip(kernels.status(), OPS, strict=True):
        assert status.cpu == (
            "fused" if INTERPRETED and FUSED and op.fused else "chunked" if op.chunked else "reference"
        )


def python(program):
    plain = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    words = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(words, capture_output=True, text=True, env=plain)
    assert result.returncode == 0, result.stderr


USE = """
import torch, zoo
from zoo import kernels
x, weight = torch.randn(2, 8, requires_grad=True), torch.rand(8)
kernels.rms_norm(x, weight).sum().backward()
kernels.status()
"""


def test_triton_is_not_imported_before_the_first_launch():
    python("import sys\n" + USE + "assert 'triton' not in sys.modules")


HIDE = """
import importlib.util, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "triton":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
sys.meta_path.insert(0, Hidden())
"""
TELL = """
assert {status.why for status in kernels.status()} <= {"triton is not installed", "there is no kernel of it yet"}
try:
    with kernels.use("fused"):
        kernels.rms_norm(x, weight)
except ValueError as error:
    assert "triton is not installed" in str(error)
else:
    raise AssertionError
"""


def test_everything_works_without_triton():
    python(HIDE + USE + TELL)
