"""The rooms of the server import each other in one direction, and nothing else of the project."""

import ast
from functools import cache

import pytest

from pipeline.core.files import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "serve").rglob("*.py")
}
OURS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
ALLOWED = {
    "protocol": ("serve.protocol.",),
    "model": ("serve.model.", "serve.protocol."),
    "http": ("serve.http.", "serve.model.", "serve.protocol."),
    "deploy": ("serve.deploy.", "serve.model.", "serve.protocol."),
}


@cache
def imports(module: str) -> set[str]:
    """The modules of the project that a module of the server imports."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return {name for name in found if name.split(".")[0] in OURS}


@cache
def floors(module: str) -> int:
    """The length of the longest chain of imports from a module down."""
    return 1 + max((floors(other) for other in imports(module)), default=0)


def test_the_server_imports_nothing_else_of_the_project() -> None:
    assert {"serve", "pipeline", "models"} <= OURS
    assert {name for module in MODULES for name in imports(module)} <= set(MODULES)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_in_one_direction(room: str) -> None:
    inside = [module for module in MODULES if module.startswith(f"serve.{room}.")]
    assert inside
    for module in inside:
        up = [name for name in imports(module) if not name.startswith(ALLOWED[room])]
        assert set(up) <= {"serve"}, module  # which has the version only


def test_the_server_has_at_most_eight_floors() -> None:
    assert floors("serve.__main__") == max(map(floors, MODULES)) <= 8
