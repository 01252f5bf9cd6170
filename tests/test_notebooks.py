"""The notebooks: committed clean, and running from top to bottom on a scale's results."""

import ast
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAGIC = re.compile(r"^%.*$", re.MULTILINE)


def execute_notebooks(root: Path, scale: str = "smoke") -> dict[str, nbformat.NotebookNode]:
    """Every notebook of the project in `root`, run on the results of `scale`, by name.

    scale: "" is what params.yaml says, as for a newcomer.

    Raises:
        CellExecutionError: a cell failed; says which and how.
    """
    environment = os.environ | {"OPMASK_SCALE": scale, "OMP_NUM_THREADS": "1"}
    done = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        client = NotebookClient(
            book,
            timeout=None,  # of a cell; the test has its own
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute(env=environment)
        done[path.stem] = book
    return done


def files_below(folder: Path) -> dict[str, bytes]:
    """Digests of the files that git does not ignore, by name."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    paths = [path for path in done.stdout.split("\0") if path and (folder / path).is_file()]
    return {path: hashlib.sha256((folder / path).read_bytes()).digest() for path in paths}


def code_of(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [MAGIC.sub("", cell.source) for cell in cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def test_there_are_three():
    assert len(NOTEBOOKS) == 3
    readme = (ROOT / "notebooks" / "README.md").read_text()
    assert all(path.name in readme for path in NOTEBOOKS)


def test_valid_and_without_outputs(notebook):
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert re.fullmatch(r"[a-z0-9-]+", cell.id)  # given by hand: they change with nothing else
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert book.metadata.language_info == {"name": "python"}


def test_written_as_nbformat_writes_it(notebook):
    """So that an editor that saves it changes what was edited alone."""
    book = nbformat.read(notebook, as_version=nbformat.NO_CONVERT)
    assert nbformat.writes(book) + "\n" == notebook.read_text()


def test_explained_before_it_is_computed(notebook):
    kinds = [cell.cell_type for cell in nbformat.read(notebook, as_version=4).cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") / len(kinds) > 0.3


def test_imports_resolve(notebook):
    for source in code_of(notebook):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                missing = [a.name for a in node.names if not hasattr(module, a.name)]
                for name in missing:  # a submodule, or an error
                    importlib.import_module(f"{node.module}.{name}")


def test_names_no_path_of_one_machine(notebook):
    text = notebook.read_text()
    assert not re.search(r"/(home|root|Users|work|tmp)/", text)


def test_clean_for_ruff():
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "notebooks"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_cell_is_reported(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cell = nbformat.v4.new_code_cell("raise ValueError(__import__('os').environ['OPMASK_SCALE'])")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "bad.ipynb")
    with pytest.raises(CellExecutionError, match=r"ValueError\S*: mine"):
        execute_notebooks(tmp_path, "mine")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_run_in_a_fresh_clone_and_change_nothing_there(tmp_path):
    """Reports are there, runs and data are not: a small model is trained for what needs one."""
    before = files_below(ROOT)
    for path in before:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = execute_notebooks(tmp_path, "")
    assert files_below(tmp_path) == before
    assert len(done) == len(NOTEBOOKS)
    last = done["the_prior_step_by_step"].cells[-1]
    assert last.outputs[-1].data["text/markdown"] == "Equal."
    (log,) = tmp_path.glob("work/notebook/*/opmask-lite0-voc/metrics.json")
    losses = [json.loads(line) for line in log.read_text().splitlines()]
    assert losses[0]["loss_mask"] > 0.65  # nothing known: ln 2
    assert losses[-1]["loss_mask"] < 0.6
    assert not (tmp_path / "runs").exists() and not (tmp_path / "data").exists()
