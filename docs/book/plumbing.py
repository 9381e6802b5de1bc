"""Which of a notebook's cells only prepare something, so that the book folds their code."""

from __future__ import annotations

import ast

DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
SETS_UP = ("use_style", "set_option", "filterwarnings", "begin")


def is_plumbing(source: str, drawn: bool) -> bool:
    """Whether a cell imports, defines, sets something up, or draws the figure below it.

    Args:
        source: of the cell: Python, perhaps with IPython's magic lines.
        drawn: whether its output has a picture.
    """
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # a magic line
        return False
    return drawn or (any(map(_imports_or_defines, lines)) and all(map(_prepares, lines)))


def _imports_or_defines(line: ast.stmt) -> bool:
    return isinstance(line, DEFINES)


def _prepares(line: ast.stmt) -> bool:
    """An import, a definition, a constant, or a call that sets something up."""
    if isinstance(line, ast.Assign):
        return all(not isinstance(target, ast.Name) or target.id.isupper() for target in line.targets)
    called = line.value.func if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) else None
    return _imports_or_defines(line) or (isinstance(called, ast.Attribute) and called.attr in SETS_UP)
