"""A hook of the docs build: every public name has its place in the reference."""

import importlib
import pathlib
import pkgutil
import re
import types

from mkdocs.exceptions import PluginError


def public_names() -> set[str]:
    """Dotted names that the packages and their public subpackages export."""
    names = set()
    for package in map(importlib.import_module, ("sciml", "problems")):
        namespaces = [package.__name__] + [
            f"{package.__name__}.{module.name}"
            for module in pkgutil.iter_modules(package.__path__)
            if module.ispkg and not module.name.startswith("_")
        ]
        for namespace in namespaces:
            names |= {
                f"{namespace}.{name}"
                for name, value in vars(importlib.import_module(namespace)).items()
                if not name.startswith("_") and not isinstance(value, types.ModuleType)
            }
    return names


def on_post_build(config) -> None:
    """Compare with the anchors of the pages that were built."""
    anchors = set()
    for page in (pathlib.Path(config.site_dir) / "api").rglob("*.html"):
        anchors |= set(re.findall(r'\bid="([\w.]+)"', page.read_text("utf-8")))
    if missing := sorted(public_names() - anchors):
        raise PluginError(
            f"Public names without a place in the API reference: {missing}. A "
            "namespace needs a page with `::: namespace`, a name needs a docstring."
        )
