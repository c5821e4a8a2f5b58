"""Every architecture file is tested by being there; what depends on its task stands in `laws`."""

import dataclasses
import inspect
import json
import os
from pathlib import Path

import pytest
import torch
from laws import architectures, build, differ, each, few, perturbed, rowwise, run
from torch import Tensor

from zoo.config import build as build_config
from zoo.config import to_dict
from zoo.registry import resolve

GOLDEN = Path(__file__).parent / "golden"
REWRITE = "ZOO_REWRITE_GOLDEN"
"""Set this variable to 1 to write the golden files anew, and read the difference before committing it."""

each_architecture = each(architectures())
each_preset = pytest.mark.parametrize(
    ("architecture", "preset"),
    [pytest.param(record, name, id=name) for record in architectures() for name in record.names()],
)


@each_architecture
def test_forward_takes_what_example_inputs_gives(architecture):
    model = build(architecture)
    assert model.config == architecture.tiny
    inputs = model.example_inputs(3)
    parameters = inspect.signature(model.forward).parameters
    required = {name for name, p in parameters.items() if p.default is inspect.Parameter.empty}
    assert required <= set(inputs) <= set(parameters)


@each(rowwise())
def test_example_inputs_gives_as_many_rows_as_it_is_asked_for(architecture):
    assert all(len(value) == 3 for value in build(architecture).example_inputs(3).values())


@each_architecture
def test_a_fresh_model_has_finite_outputs_and_gradients(architecture):
    model = build(architecture)
    outputs = run(model, model.example_inputs(4))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    assert all(output.isfinite().all() for output in outputs)
    bad = [name for name, p in learnt(model).items() if p.grad is None or not p.grad.isfinite().all()]
    assert not bad, f"no finite gradient for {bad}"


@each_architecture
def test_every_parameter_matters(architecture):
    """A bias alone may have no effect, and only beside a weight that has one: before a norm, or in a softmax's keys."""
    model = perturbed(architecture)
    outputs = run(model, model.example_inputs(4))
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    alive = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    shifts = {name for name, p in model.named_parameters() if p.grad is not None and name.endswith("bias")}
    excused = {name for name in shifts if name.removesuffix("bias") + "weight" in alive}
    dead = learnt(model).keys() - alive - excused
    assert not dead, f"nothing depends on {sorted(dead)}"


def learnt(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """All parameters but those that are fixed, such as some positions."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@each(rowwise())
def test_rows_do_not_see_each_other_in_eval(architecture):
    model = perturbed(architecture)
    inputs = model.example_inputs(4)
    together = run(model, inputs)
    for row in range(4):
        alone = run(model, {name: value[row : row + 1] for name, value in inputs.items()})
        for whole, single in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[row : row + 1], single, rtol=1e-4, atol=1e-5)


@each_architecture
def test_a_state_dict_carries_the_whole_model(architecture):
    model, other = perturbed(architecture), build(architecture, seed=1).eval()
    inputs = model.example_inputs(2)
    before = run(other, inputs)
    other.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    after = run(other, inputs)
    assert any(differ(*pair) for pair in zip(before, after, strict=True))
    assert all(torch.equal(*pair) for pair in zip(run(model, inputs), after, strict=True))


@each_architecture
def test_the_seed_decides_the_weights(architecture):
    first, again, other = (build(architecture, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@each_architecture
def test_init_weights_sets_everything(architecture):
    with torch.device("meta"):
        model = architecture.model(architecture.tiny)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    assert not [name for name, tensor in tensors if not tensor.is_meta], "built outside the meta device"
    model.to_empty(device="cpu")
    filled = {name: torch.full_like(tensor, poison(tensor)) for name, tensor in tensors_of(model).items()}
    with torch.no_grad():
        for name, tensor in tensors_of(model).items():
            tensor.copy_(filled[name])
    model.init_weights()
    assert len(list(model.parameters())) + len(list(model.buffers())) == len(tensors), "memory broke a tie"
    left = [name for name, tensor in tensors_of(model).items() if (tensor != tensor).any() or (tensor == 77).any()]
    assert not left, f"init_weights leaves {left} as they were"


def tensors_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def poison(tensor: Tensor) -> float:
    return float("nan") if tensor.is_floating_point() else True if tensor.dtype == torch.bool else 77


@each_architecture
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_forward_changes_nothing(architecture, training):
    """In train mode batch statistics move, in place; no attribute is written ever."""
    model = build(architecture).train(training)
    before, values = attributes(model), {name: value.clone() for name, value in model.state_dict().items()}
    run(model, model.example_inputs(4))
    after = attributes(model)
    assert before.keys() == after.keys()
    assert not [name for name in before if before[name] is not after[name]]
    if not training:
        assert not [name for name, value in model.state_dict().items() if not torch.equal(value, values[name])]


def attributes(model: torch.nn.Module) -> dict[tuple[str, ...], object]:
    found: dict[tuple[str, ...], object] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            inside = value if isinstance(value, dict) else {"": value}
            found |= {(name, key, str(part)): item for part, item in inside.items()}
    return found


@each_architecture
@pytest.mark.parametrize("autocast", [False, True], ids=["cast", "autocast"])
def test_bf16_is_finite_and_close(architecture, autocast):
    model = perturbed(architecture)
    inputs = model.example_inputs(2)
    exact = run(model, inputs)
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            rough = run(model, inputs)
    else:
        model.to(torch.bfloat16)
        rough = run(model, {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()})
    for truth, output in zip(exact, rough, strict=True):
        error = (output.float() - truth).norm() / truth.norm()
        assert error < 0.05, f"relative error {error:.3f}"


@each_architecture
@pytest.mark.parametrize("mode", ["compile", "export"])
def test_the_graph_is_whole_and_equal(architecture, mode):
    check_graph(perturbed(architecture), mode)


@pytest.mark.slow
@each(few(architectures(), 8))
@pytest.mark.parametrize("mode", ["compile", "export"])
def test_the_graph_of_the_smallest_preset_is_whole_and_equal(architecture, mode):
    smallest = min(architecture.params, key=lambda name: architecture.params[name])
    check_graph(build(architecture, architecture.preset(smallest)).eval(), mode)


@torch.no_grad()
def check_graph(model: torch.nn.Module, mode: str) -> None:
    torch.compiler.reset()
    inputs = {
        name: value if value.is_floating_point() else value[..., :16]  # a short text has the same graph
        for name, value in model.example_inputs(2).items()
    }
    if mode == "compile":
        graph = torch.compile(model, fullgraph=True, backend="aot_eager")
    else:
        graph = torch.export.export(model, (), inputs).module()
    torch.testing.assert_close(graph(**inputs), model(**inputs))


@each_preset
def test_a_preset_has_the_published_number_of_parameters(architecture, preset):
    with torch.device("meta"):
        model = architecture.model(architecture.preset(preset))
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.params[preset]


@each_architecture
def test_the_record_is_complete(architecture):
    assert set(architecture.params) == set(architecture.names())
    assert architecture.paper.startswith("https://")
    for alias, target in architecture.aliases.items():
        assert target.partition(".")[0] in architecture.names()
        assert resolve(alias).architecture is architecture


@each_preset
def test_a_config_survives_json(architecture, preset):
    config = architecture.preset(preset)
    text = json.dumps(to_dict(config))
    assert build_config(type(config), json.loads(text), preset) == config
    assert dataclasses.replace(config) == config


@each_architecture
def test_the_config_is_the_one_that_was_saved_before(architecture):
    """Published config.json files hold these fields and mean these defaults; renaming or changing one breaks them."""
    path, config = GOLDEN / f"{architecture.name}.json", architecture.config()
    if os.environ.get(REWRITE) == "1":
        path.write_text(json.dumps(to_dict(config), indent=2) + "\n", encoding="utf-8")
    assert path.is_file(), f"no {path.name} in tests/golden; write it with {REWRITE}=1"
    assert json.loads(path.read_text(encoding="utf-8")) == to_dict(config)
