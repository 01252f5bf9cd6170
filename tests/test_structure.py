"""How the code is built: what no linter at hand says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"runs", "reports", "work", "data", "model_final.pth"}
MODULES = [
    path.relative_to(ROOT).as_posix()
    for package in ("study", "pipeline")
    for path in (ROOT / package).rglob("*.py")
]


def paths_spelled(tree: ast.AST) -> list[str]:
    """String constants that are joined to a path, or that a `Path` is made of."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path":
            parts = node.args
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.left, node.right]
        else:
            continue
        found += [
            p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)
        ]
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if name != "study/spec/paths.py"])
def test_no_module_but_paths_spells_a_folder_of_the_project(module):
    tree = ast.parse((ROOT / module).read_text())
    assert not [p for p in paths_spelled(tree) if p.split("/")[0] in FOLDERS]


def test_what_is_looked_for_would_be_found():
    text = "a = Path('runs', scale)\nb = root / 'reports' / 'x'\nc = Path('work/kept')\nd = 'runs'"
    assert set(paths_spelled(ast.parse(text))) == {"x", "reports", "runs", "work/kept"}
