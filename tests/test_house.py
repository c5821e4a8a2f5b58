"""The house rules that a machine can see; each message says what to do instead."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zoo"
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
ARCHITECTURES = [path for path in FILES if (PACKAGE / "architectures") in path.parents and path.name != "__init__.py"]
PACKAGES = sorted((PACKAGE / "architectures").glob("*/__init__.py"))
"""Architectures of several files, whose own holds the model and the record; the others are held to what forward is."""

FLOORS = [
    {"config", "registry", "version", "storage"},
    {"kernels"},
    {"nn"},
    {"architectures"},
    {"diffusion", "convert", "weights", "preprocess", "tokenizer", "hub", "factory"},
    {"pipelines", "training"},
    {"report"},
    {"cli"},
]
"""From the ground up; an import goes to a lower floor, or stays inside its own package or floor."""
ONLY_IN = {
    "triton": "kernels/*/fused.py",
    "huggingface_hub": "hub/*.py",
    "yaml": "config.py",
    "tokenizers": "tokenizer.py",
}
LAZY = {"torchvision", "sklearn", "matplotlib", "torchmetrics", "tensorboard", "PIL", "transformers", "timm"}
"""Optional or slow to import, so imported by the function that needs them."""
BASES = {
    "nn.Module", "Protocol", "NamedTuple", "Objective", "torch.autograd.Function", "Generic", "Sequence",
    "types.ModuleType", "yaml.SafeLoader", "yaml.SafeDumper", "typer.core.TyperGroup", "StrEnum",
    "HoldOut", "ImageOptions", "Bundled", "Drawn",  # the options that several data sets share
    "JudgeConfig", "QualityConfig", "DiffusionConfig",  # and objectives
}  # fmt: skip
ERROR = re.compile(r"(Error|Exception|SystemExit|Interrupted|DamagedFile|UnknownName|Warning)$")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import below a node; `from a import b` gives a.b."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((child.lineno, f"{child.module}.{alias.name}") for alias in child.names)


def floor(part: str) -> int:
    found = [i for i, names in enumerate(FLOORS) if part in names]
    assert found, f"zoo/{part} stands on no floor; give it one in FLOORS and in the design"
    return found[0]


each_file = pytest.mark.parametrize("path", FILES, ids=relative)
each_part = pytest.mark.parametrize("path", [*ARCHITECTURES, *PACKAGES], ids=relative)
each_architecture = pytest.mark.parametrize(
    "path", [path for path in ARCHITECTURES if path.parent.name == "architectures"] + PACKAGES, ids=relative
)


@each_file
def test_imports_go_down(path):
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if part in ("__init__", "__main__"):
        return
    for line, name in imports(tree(path)):
        if name.startswith("zoo.") and (target := name.split(".")[1]) != part:
            assert floor(target) <= floor(part), (
                f"{relative(path)}:{line}: {part} may not import zoo.{target}, it stands higher"
            )


@each_part
def test_an_architecture_imports_no_other(path):
    own = path.relative_to(PACKAGE / "architectures").parts[0]
    for line, name in imports(tree(path)):
        other = name.startswith("zoo.architectures") and not name.startswith(f"zoo.architectures.{own}.")
        assert not other, f"{relative(path)}:{line}: move shared blocks to zoo/nn"


@each_file
def test_a_library_is_imported_where_it_belongs(path):
    for line, name in imports(tree(path)):
        place = ONLY_IN.get(name.split(".")[0])
        assert place is None or path.relative_to(PACKAGE).match(place), (
            f"{relative(path)}:{line}: {name} only in {place}"
        )


@each_file
def test_slow_and_optional_libraries_are_imported_by_functions(path):
    for statement in tree(path).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for line, name in imports(statement):
                assert name.split(".")[0] not in LAZY, f"{relative(path)}:{line}: import {name} inside the function"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=relative)
def test_a_file_is_one_idea(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{relative(path)} has {lines} lines; more than 400 are two ideas"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_script_only_parses_and_calls(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 60, f"{relative(path)} has {lines} lines; move the work into zoo and call it"


@each_file
def test_a_function_fits_a_screen(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50, (
                f"{relative(path)}:{node.lineno}: {node.name} has {length} lines; give parts of it names"
            )


@each_file
def test_every_module_says_what_it_is(path):
    assert path.name == "__main__.py" or ast.get_docstring(tree(path)), f"{relative(path)}: open with a docstring"


@each_file
def test_only_modules_and_contracts_are_inherited(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = ast.unparse(base).split("[")[0]
                known = name in BASES or ERROR.search(name) or name.endswith(("ConfigError", "UnknownOption"))
                assert known, f"{relative(path)}:{node.lineno}: {node.name} inherits {name}; compose instead"


@each_file
def test_nothing_happens_at_import(path):
    """A module's top level may define and describe; calls with effects belong into functions."""
    for statement in tree(path).body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call):
            name = ast.unparse(call.func)
            private = name.startswith("_") or name.split(".")[0][:1] == "_"
            typer = path.is_relative_to(PACKAGE / "cli") and name.endswith((".add_typer", ".command", "main"))
            # Torch knows operators by their registration alone.
            operator = path.match("kernels/*/*.py") and name.endswith((".register_autograd", "differentiable_once"))
            assert private or typer or operator, f"{relative(path)}:{statement.lineno}: {name}(...) runs at import"
        assert not isinstance(statement, ast.For | ast.While | ast.With), (
            f"{relative(path)}:{statement.lineno}: runs at import"
        )


@pytest.mark.parametrize("path", [path for path in FILES if path.match(ONLY_IN["triton"])], ids=relative)
def test_a_kernel_says_what_it_reads(path):
    """Triton's interpreter reads zeros beyond a mask and bit patterns from bfloat16, where a GPU reads neither."""
    text = tree(path)
    calls = [node for node in ast.walk(text) if isinstance(node, ast.Call)]
    widened = {ast.unparse(c.func.value) for c in calls if ast.unparse(c).endswith(".to(tl.float32)")}
    for call in calls:
        if ast.unparse(call.func) == "tl.load":
            given, at = {keyword.arg for keyword in call.keywords}, f"{relative(path)}:{call.lineno}"
            assert "mask" not in given or "other" in given, f"{at}: say with other= what stands beyond the mask"
            assert "mask" not in given or ast.unparse(call) in widened, f"{at}: add .to(tl.float32) to what is loaded"


@each_part
def test_forward_is_pure(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            assert node.args.kwarg is None, f"{relative(path)}:{node.lineno}: forward takes no **kwargs"
            for child in ast.walk(node):
                text = ast.unparse(child) if isinstance(child, ast.Call) else ""
                assert not text.startswith("print("), f"{relative(path)}:{child.lineno}: forward prints"
                assert not text.endswith(".item()"), f"{relative(path)}:{child.lineno}: forward reads a value back"
                if isinstance(child, ast.Assign | ast.AugAssign):
                    targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                    written = [ast.unparse(t) for t in targets if ast.unparse(t).startswith("self.")]
                    assert not written, f"{relative(path)}:{child.lineno}: forward writes {written}"


@each_architecture
def test_an_architecture_ends_with_its_record(path):
    last = tree(path).body[-1]
    assert isinstance(last, ast.Assign), f"{relative(path)}: the last statement is ARCHITECTURE = Architecture(...)"
    assert ast.unparse(last.targets[0]) == "ARCHITECTURE"
    call = last.value
    assert isinstance(call, ast.Call)
    given = {keyword.arg for keyword in call.keywords}
    assert given == {"name", "model", "config", "task", "paper", "tiny", "presets", "params", "aliases"}


@each_part
def test_a_config_is_flat_and_frozen(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            assert decorators == ["dataclass(frozen=True, kw_only=True)"], (
                f"{relative(path)}:{node.lineno}: {decorators}"
            )
            bare = [s.lineno for s in node.body if isinstance(s, ast.Assign)]
            assert not bare, f"{relative(path)}:{bare}: a field without annotation is no field"


FOREIGN = {
    "n_layer", "n_head", "n_embd", "d_model", "embed_dim", "hidden_size", "num_layers", "num_attention_heads", "d_ff",
    "intermediate_size", "block_size", "context_length", "in_chans", "img_size", "num_class", "hidden_dim", "n_heads",
    "d_state", "mlp_ratio", "planes", "inplanes", "layer_norm_eps", "drop_rate", "num_hidden_layers",
}  # fmt: skip
"""Words of other libraries for which the house has one of its own; see the design's vocabulary."""


@pytest.mark.parametrize("path", [p for p in FILES if {"architectures", "nn"} & set(p.parts)], ids=relative)
def test_one_word_per_concept(path):
    words = {
        node.arg if isinstance(node, ast.arg) else node.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.arg | ast.Name)
    }
    assert not words & FOREIGN, f"{relative(path)}: {words & FOREIGN} have house names"


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=relative)
def test_nothing_is_left_for_later(path):
    text = path.read_text(encoding="utf-8")
    for word in ("TODO", "FIXME", "XXX", "NotImplementedError"):
        assert word not in text, f"{relative(path)}: finish it or open an issue, {word} helps nobody"


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=relative)
def test_users_never_meet_an_assert(path):
    lines = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
    assert not lines, f"{relative(path)}:{lines}: raise ValueError with value, rule and remedy"
