"""One thread, so that timings and sums do not depend on the machine; one seed for every test; shared fixtures."""

import pytest
import torch

from zoo.cli import main

pytest.register_assert_rewrite("laws")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def run(capsys):
    """Run a command that must succeed; returns what it put on standard output."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return call


@pytest.fixture
def toy():
    """The zoo with an architecture `toy`, for modules that say `pytestmark = pytest.mark.usefixtures("toy")`."""
    import toy_zoo

    with toy_zoo.registered(toy_zoo.architecture()):
        yield


@pytest.fixture
def no_report(monkeypatch):
    """Drawing a page takes longer than these runs, and one test of it is enough."""
    monkeypatch.setattr("zoo.report.run_page", lambda folder: folder / "report.html")
