"""Plugins, as really installed packages: good ones are part of the zoo, others are left out by name."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ARCHITECTURE = '''
"""A plugin's architecture."""
from dataclasses import dataclass
from torch import Tensor, nn
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 3


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head = nn.Linear(2, config.width)

    def init_weights(self):
        self.head.reset_parameters()

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features)


def record(name, **presets):
    return Architecture(name=name, model=Model, config=Config, task="tabular-classification", paper="none",
                        tiny=Config(), presets=presets, params={}, aliases={})


GOOD = record("acme", acme_wide=Config(width=9))
AGAIN = record("later", acme_wide=Config(width=7))
RESNET = record("resnet", resnet18=Config())
PRESET = record("other", resnet18=Config())
NOTHING = {"name": "dict"}


class OBJECTIVE:
    name = "acme_goal"
'''

ENTRY_POINTS = """
[zoo_architectures]
acme = acme_zoo.models:GOOD
later = acme_zoo.models:AGAIN
resnet = acme_zoo.models:RESNET
preset = acme_zoo.models:PRESET
nothing = acme_zoo.models:NOTHING
absent = acme_zoo.models:ABSENT
broken = acme_zoo.broken:MODEL
exits = acme_zoo.exits:MODEL

[zoo_objectives]
acme_goal = acme_zoo.models:OBJECTIVE
"""

FILES = {
    "acme_zoo/__init__.py": "import sys\nsys.modules[__name__].imported = True\n",
    "acme_zoo/models.py": ARCHITECTURE,
    "acme_zoo/broken.py": "import a_package_that_is_not_there\n",
    "acme_zoo/exits.py": "raise SystemExit(3)\n",
    "acme_zoo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-zoo\nVersion: 1.0\n",
    "acme_zoo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "acme_zoo-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
}

PROGRAM = """
import json, sys, warnings
import zoo
facts = {"imported early": "acme_zoo" in sys.modules}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    facts["listed"] = zoo.list_models()
facts["warnings"] = [str(warning.message) for warning in caught]
facts["imported"] = "acme_zoo" in sys.modules
facts["resnet18"] = zoo.describe("resnet18").num_params
if "acme" in facts["listed"]:
    import torch
    model = zoo.create("ACME-wide")
    again = zoo.load(zoo.save(model, sys.argv[1]))
    facts["reloaded"] = torch.equal(model.head.weight, again.head.weight) and again.config == model.config
    facts["class"] = type(again).__module__
    facts["width"] = again.config.width
    from zoo.training.objectives import OBJECTIVES
    facts["objective"] = OBJECTIVES.find("acme_goal").__module__
else:
    try:
        zoo.load(sys.argv[1])
    except KeyError as error:
        facts["load"] = str(error)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What a fresh interpreter says with the plugins installed, and with ZOO_PLUGINS=0."""
    folder = tmp_path_factory.mktemp("plugins")
    wheel = folder / "acme_zoo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        archive.writestr("acme_zoo-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in FILES))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", folder / "site", wheel], check=True, cwd=folder)
    found = []
    for plugins in ("1", "0"):
        environment = {"PYTHONPATH": f"{folder / 'site'}:{ROOT}", "ZOO_PLUGINS": plugins, "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-c", PROGRAM, folder / "model"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
        found.append(json.loads(done.stdout))
    return found


def test_a_good_plugin_is_listed_created_saved_and_loaded(facts):
    installed, _ = facts
    assert {"acme", "acme_wide"} <= set(installed["listed"])
    assert (installed["class"], installed["width"], installed["reloaded"]) == ("acme_zoo.models", 9, True)
    assert installed["objective"] == "acme_zoo.models"


def test_plugin_code_runs_at_the_first_look_up_only(facts):
    assert not facts[0]["imported early"]
    assert facts[0]["imported"]


def test_built_ins_win_over_plugins(facts):
    installed, without = facts
    assert installed["resnet18"] == without["resnet18"] == 11_689_512
    assert set(installed["listed"]) == {*without["listed"], "acme", "acme_wide"}


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("resnet", "'resnet' claims the name 'resnet', which 'resnet' has already"),
        ("preset", "'other' claims the name 'resnet18', which 'resnet' has already"),
        ("later", "'later' claims the name 'acme_wide', which 'acme' has already"),
        ("nothing", "expected an Architecture record, got dict"),
        ("absent", "AttributeError"),
        ("broken", "No module named 'a_package_that_is_not_there'"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_clashes_or_breaks_is_left_out_with_one_warning(facts, plugin, reason):
    (warning,) = [text for text in facts[0]["warnings"] if f"zoo plugin {plugin!r}" in text]
    assert reason in warning
    assert "(acme_zoo." in warning
    assert "ZOO_PLUGINS=0" in warning


def test_nothing_else_is_warned_of(facts):
    assert len(facts[0]["warnings"]) == 7


def test_zoo_plugins_0_runs_no_plugin_code(facts):
    _, without = facts
    assert not without["imported"]
    assert without["warnings"] == []
    assert "acme" not in without["listed"]


def test_a_model_whose_plugin_is_missing_says_so(facts):
    assert "unknown architecture 'acme'" in facts[1]["load"]
    assert "if it comes from a plugin, install that" in facts[1]["load"]
