"""The rules of the house: functions from files or modules to lists of complaints."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import types
from collections.abc import Iterable, Iterator

import equinox as eqx

FOLDERS = ("sciml", "problems", "tests", "examples")
MAX_LINES = 400
MAX_ARGUMENTS = 10

# From the ground up: each imports only from those before it.
LAYERS = (
    "_result",
    "_container",
    "grids",
    # What a file may name: grids and boundary conditions are spelled out in it.
    "_registry",
    "_serialisation",
    "_problem",
    "data",
    "linear",
    "preconditioners",
    "weak_forms",
    "neural_operators",
    "neural_odes",
    "constraints",
    "inverse",
    "training",
    "evaluation",
    # The roof joins the parts: surrogate and solver in one call, the public surface.
    "_pretrained",
    "_predict",
    "_export",
    "__init__",
)
# The console script's module is the one that is public by name.
PUBLIC_MODULES = {"cli", "__init__", "__main__"}


def python_files(root: pathlib.Path, *folders: str) -> Iterator[pathlib.Path]:
    for folder in folders:
        yield from sorted((root / folder).rglob("*.py"))


def trees(
    root: pathlib.Path, *folders: str
) -> Iterator[tuple[pathlib.Path, ast.Module]]:
    for path in python_files(root, *folders):
        yield path.relative_to(root), ast.parse(path.read_text("utf-8"))


def long_files(root: pathlib.Path) -> list[str]:
    counts = (
        (path.relative_to(root), len(path.read_text("utf-8").splitlines()))
        for path in python_files(root, *FOLDERS)
    )
    return [f"{path}: {n} lines" for path, n in counts if n > MAX_LINES]


def imported_names(path: pathlib.Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Dotted names a file imports anywhere in it, relative ones made absolute."""
    package = path.parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            start = ".".join((*base, *filter(None, [node.module])))
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            target = node.args[0]
            if name in ("import_module", "__import__"):
                constant = isinstance(target, ast.Constant)
                yield node.lineno, str(target.value) if constant else ""


def layer_violations(root: pathlib.Path) -> list[str]:
    complaints = []
    for path, tree in trees(root, "sciml"):
        layer = path.parts[1].removesuffix(".py")
        if layer not in LAYERS:
            complaints.append(f"{path}: no such layer; add it to LAYERS and the plan")
            continue
        for line, name in imported_names(path, tree):
            first, *rest = name.split(".")
            if first == "problems":
                complaints.append(f"{path}:{line}: the library imports problems")
            if first != "sciml":
                continue
            # `import sciml` and `from sciml import RESULTS` ask for the roof.
            target = rest[0] if rest and rest[0] in LAYERS else "__init__"
            if LAYERS.index(target) > LAYERS.index(layer):
                complaints.append(f"{path}:{line}: {layer} imports {name}, above it")
    return complaints


def module_name_violations(root: pathlib.Path) -> list[str]:
    complaints = []
    for path, tree in trees(root, "sciml", "problems"):
        words = {part.removesuffix(".py").strip("_") for part in path.parts[1:]}
        if path.parts[0] == "sciml" and words & {"utils", "common", "helpers"}:
            complaints.append(f"{path}: says nothing about what is inside")
        if not path.stem.startswith("_") and path.stem not in PUBLIC_MODULES:
            complaints.append(f"{path}: modules are private, name it _{path.name}")
        if not path.stem.startswith("_") and path.stem in {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }:
            complaints.append(f"{path}: shares its name with what it exports")
    return complaints


def pickle_violations(root: pathlib.Path) -> list[str]:
    complaints = []
    for path, tree in trees(root, "sciml", "problems", "examples"):
        for line, name in imported_names(path, tree):
            if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib"):
                complaints.append(f"{path}:{line}: imports {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                if getattr(node.value, "value", None) is not False:
                    complaints.append(f"{path}:{node.value.lineno}: allow_pickle")
    return complaints


def modules_of(package: types.ModuleType) -> list[types.ModuleType]:
    walked = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    names = [m.name for m in walked if not m.name.endswith("__main__")]
    return [package, *map(importlib.import_module, names)]


def classes_of(modules: Iterable[types.ModuleType]) -> list[type]:
    found = {
        value: None
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    return list(found)


def is_abstract(cls: type) -> bool:
    return cls.__name__.lstrip("_").startswith("Abstract")


def abstract_members(cls: type) -> set[str]:
    kinds = ("__abstractmethods__", "__abstractvars__", "__abstractclassvars__")
    return set().union(*(getattr(cls, kind, ()) for kind in kinds))


def inheritance_violations(modules: Iterable[types.ModuleType]) -> list[str]:
    complaints = []
    for cls in classes_of(modules):
        if not issubclass(cls, eqx.Module):
            continue
        name = f"{cls.__module__}.{cls.__qualname__}"
        for base in cls.__bases__:
            is_module = issubclass(base, eqx.Module) and base is not eqx.Module
            if is_module and not is_abstract(base):
                complaints.append(f"{name}: subclass of the concrete {base.__name__}")
        if is_abstract(cls) and not abstract_members(cls):
            complaints.append(f"{name}: nothing in it is abstract")
        if not is_abstract(cls) and (left := abstract_members(cls)):
            complaints.append(f"{name}: leaves {sorted(left)} abstract")
    return complaints


def namespaces_of(package: types.ModuleType) -> list[str]:
    """Names of the package and its public subpackages."""
    return [package.__name__] + [
        f"{package.__name__}.{m.name}"
        for m in pkgutil.iter_modules(package.__path__)
        if m.ispkg and not m.name.startswith("_")
    ]


def public_names(namespace: types.ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(namespace).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def namespace_violations(namespace: types.ModuleType) -> list[str]:
    """Docstrings, sizes of constructors, and nothing that belongs to others."""
    complaints = [] if namespace.__doc__ else [f"{namespace.__name__}: no docstring"]
    for name, value in vars(namespace).items():
        home = getattr(value, "__name__", "").split(".")[0]
        if isinstance(value, types.ModuleType) and not name.startswith("_"):
            # jaxtyping's import hook, which the tests use, writes its own name there.
            if home not in (namespace.__name__.split(".")[0], "jaxtyping"):
                complaints.append(f"{namespace.__name__}.{name}: leaks a module")
    for module in pkgutil.iter_modules(namespace.__path__):
        value = vars(namespace).get(module.name)
        if value is not None and not isinstance(value, types.ModuleType):
            complaints.append(f"{namespace.__name__}.{module.name}: hides a module")
    for name, value in public_names(namespace).items():
        full = f"{namespace.__name__}.{name}"
        if not callable(value) or not hasattr(value, "__name__"):
            continue
        doc = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
        # A dataclass without a docstring is given its signature for one.
        if not doc or not doc.strip() or doc.startswith(f"{value.__name__}("):
            complaints.append(f"{full}: no docstring")
        if isinstance(value, type) and (count := num_arguments(value)) > MAX_ARGUMENTS:
            complaints.append(f"{full}: {count} arguments")
    return complaints


def num_arguments(cls: type) -> int:
    try:
        return len(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return 0  # an enumeration: it is not called
