"""The promises of the layout, checked: one front door, every public name in one place."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import livebot
import threadkit

SOURCES = Path(threadkit.__file__).parent
FORBIDDEN = {"utils", "common", "helpers", "types", "base", "constants", "core", "manager"}


def rooms():
    """Every private module or package directly below threadkit."""
    return [info.name for info in pkgutil.iter_modules([str(SOURCES)]) if info.name[0] == "_"]


def test_the_front_door_lists_exactly_what_it_offers():
    offered = {
        name
        for name, value in vars(threadkit).items()
        if not name.startswith("_") and not isinstance(value, type(threadkit))
    }
    assert set(threadkit.__all__) == offered


def test_no_name_is_offered_twice():
    assert len(threadkit.__all__) == len(set(threadkit.__all__))


def test_the_front_door_holds_no_logic():
    tree = ast.parse((SOURCES / "__init__.py").read_text(encoding="utf-8"))
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    assert [node for node in tree.body if not isinstance(node, allowed)] == []


@pytest.mark.parametrize("room", rooms())
def test_every_name_a_room_exports_exists(room):
    module = importlib.import_module(f"threadkit.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", threadkit.__all__)
def test_every_public_class_is_documented(name):
    value = getattr(threadkit, name)
    if isinstance(value, type):
        assert value.__doc__, f"threadkit.{name} has no docstring"


@pytest.mark.parametrize("package", [threadkit, livebot])
def test_no_drawer_for_leftovers(package):
    names = {
        info.name.split(".")[-1].strip("_") for info in pkgutil.walk_packages(package.__path__)
    }
    assert names & FORBIDDEN == set()


def test_no_platform_question_outside_its_room():
    asking = [
        path.name
        for path in SOURCES.rglob("*.py")
        if path.name != "_platform.py" and "sys.platform" in path.read_text(encoding="utf-8")
    ]
    assert asking == []
