"""The packages of ``claude_proxy`` stand in layers: each imports from those below it, and no two files import each other.

No file and no function is longer than a reader takes in at once.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# From the bottom up. What stands beside the packages is below all of them, but for what starts the command line.
LAYERS = (
    "", "anthropic", "state", "credentials", "providers", "openai", "config", "usage", "history", "alerts", "upstream",
    "access", "signin", "proxy", "check", "server", "litellm", "cli", "__main__",
)  # fmt: skip
# In lines; a function's begin at its ``def`` and hold its docstring.
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


@cache
def imports() -> dict[str, frozenset[str]]:
    """The modules of the package, each with those that it imports, wherever in the file."""
    files = {module_of(path): path for path in (ROOT / "claude_proxy").rglob("*.py")}
    return {module: frozenset(_imported(path, files)) for module, path in files.items()}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(path, files):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "claude_proxy":
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in files else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in files)


def layer(module: str) -> int:
    """The place of a module's layer, counted from the bottom."""
    parts = module.split(".")[1:]
    beside = len(parts) < 2 and (not parts or parts[0] not in LAYERS)
    return LAYERS.index("" if beside else parts[0])


def test_every_package_has_a_layer():
    """A new package is put into the order, and none stands in it that is not there."""
    packages = {path.name for path in (ROOT / "claude_proxy").iterdir() if (path / "__init__.py").exists()}
    assert packages == {*LAYERS} - {"", "__main__"}


def test_imports_go_down():
    """No file imports from a package above its own; what does is printed as an arrow."""
    arrows = [f"{a} -> {b}" for a, found in sorted(imports().items()) for b in sorted(found) if layer(b) > layer(a)]
    assert not arrows, "\n".join(arrows)


def test_no_circle_of_files():
    """No file imports itself by way of others; a circle is printed as its files."""
    done: set[str] = set()

    def look(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in sorted(imports().get(module, ())):
                look(other, (*way, module))
            done.add(module)

    for module in imports():
        look(module, ())


def test_no_file_is_too_long():
    """No file is longer than ``LONGEST_FILE``; what is longer is printed with its length."""
    lengths = {module_of(path): _lines(path) for path in (ROOT / "claude_proxy").rglob("*.py")}
    found = [f"{module}: {lines}" for module, lines in lengths.items() if lines > LONGEST_FILE]
    assert not found, "\n".join(found)


def test_no_function_is_too_long():
    """No function or method is longer than ``LONGEST_FUNCTION``; what is longer is printed with its length."""
    found = [
        f"{module_of(path)}.{name}: {lines}"
        for path in sorted((ROOT / "claude_proxy").rglob("*.py"))
        for name, lines in _functions(path)
        if lines > LONGEST_FUNCTION
    ]
    assert not found, "\n".join(found)


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1
