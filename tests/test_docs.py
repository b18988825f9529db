"""The docs say what is there, and their code runs."""

import ast
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import problems
import sciml

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "pages"
# A block of Python is run unless the line above it says why not.
BLOCK = re.compile(
    r"(?P<reason><!-- not run: [^>]+ -->\n)?"
    r"^(?P<indent> *)```python *\n(?P<code>.*?)^(?P=indent)``` *$",
    re.MULTILINE | re.DOTALL,
)


def pages() -> list[pathlib.Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(PAGES.rglob("*.md"))]


def program(text: str) -> str:
    """The page's code that is run, every line where it stands on the page."""
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        if block["reason"] is None:
            first = text.count("\n", 0, block.start("code"))
            for k, line in enumerate(block["code"].splitlines()):
                lines[first + k] = line.removeprefix(block["indent"])
    return "\n".join(lines).rstrip()


def with_code() -> list:
    """The guides; marked slow, as they take minutes together, the reference and pages
    whose code examples and other tests run as well."""
    names = [
        path.relative_to(ROOT).as_posix()
        for path in pages()
        if program(path.read_text("utf-8"))
    ]
    slow = re.compile("/api/|/training.md$|/surrogates.md$|/your-data.md$")
    marked = lambda name: pytest.param(name, marks=pytest.mark.slow)
    return [marked(name) if slow.search(name) else name for name in names]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("page", with_code())
def test_the_code_of_the_page_runs(page, tmp_path):
    code = program((ROOT / page).read_text("utf-8"))
    script = tmp_path / "page.py"
    script.write_text(code, "utf-8")
    # As a reader would: a new process, in an empty folder, with JAX as it comes. (But
    # for how hard XLA optimises, see conftest.py.)
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_code_is_python(path):
    for block in BLOCK.finditer(path.read_text("utf-8")):
        indent = block["indent"]
        lines = [line.removeprefix(indent) for line in block["code"].splitlines()]
        ast.parse("\n".join(lines))


def test_blocks_are_found():
    text = (
        "a\n```python\nx = 1\n```\n<!-- not run: long -->\n```python\nwhile 1: pass\n"
        "```\n\n1. b\n\n    ```python\n    assert x == 1\n    ```\n```sh\nls\n```\n"
    )
    code = program(text)
    assert code.splitlines() == ["", "", "x = 1"] + [""] * 9 + ["assert x == 1"]


def namespaces() -> list[str]:
    found = []
    for package in (sciml, problems):
        subpackages = (
            f"{package.__name__}.{module.name}"
            for module in pkgutil.iter_modules(package.__path__)
            if module.ispkg and not module.name.startswith("_")
        )
        found += [package.__name__, *subpackages]
    return found


@pytest.mark.parametrize("namespace", namespaces())
def test_every_namespace_is_in_the_reference(namespace):
    # That all its names are on the page is checked when the docs are built.
    reference = (p.read_text("utf-8") for p in (PAGES / "api").rglob("*.md"))
    directive = re.compile(rf"^::: {re.escape(namespace)}$", re.MULTILINE)
    assert sum(len(directive.findall(text)) for text in reference) == 1


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "docs" / "mkdocs.yml").read_text("utf-8")
    for path in PAGES.rglob("*.md"):
        assert f": {path.relative_to(PAGES).as_posix()}\n" in navigation


def test_every_result_is_explained():
    text = (PAGES / "api" / "sciml.md").read_text("utf-8")
    tree = ast.parse((ROOT / "sciml" / "_result.py").read_text("utf-8"))
    (cls,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    own = [
        target.id
        for node in cls.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert len(own) >= 5
    for name in [*own, "successful", "max_steps_reached", "nonfinite"]:
        assert f"| `{name}` |" in text
