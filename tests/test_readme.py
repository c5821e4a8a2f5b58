"""Every example in the README runs and prints what it says."""

import doctest
import re
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readme_s_examples_run_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 3
    names = {"folder": str(tmp_path / "model")}
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), names, "README", "README.md", 0)
    output: list[str] = []
    result = doctest.DocTestRunner().run(example, out=output.append)
    assert result.failed == 0, "".join(output)


def test_the_configs_that_the_readme_names_exist():
    for name in re.findall(r"configs/\S+\.yaml", TEXT):
        assert (Path(__file__).parents[1] / name).is_file(), name
