"""What code a result rests on: one digest for everything that a Python module may import.

DVC compares the files that a stage names; which modules a stage uses is for the user to list, and
a list kept by hand goes stale. Here the list is found: from a module's syntax tree follow all
imports that lead into the project, those inside functions too, and names of modules in strings, as
`runpy` and process pools take them. A module's digest is that of its syntax tree, so that comments,
docstrings and layout do not count; beside modules count the data files of their packages, and the
versions of chosen libraries. Nothing is imported or run.

This file needs the standard library alone and knows nothing of this project: copy it if it is of
use (`docs/code-digests.md`).
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import Any

Digests = dict[str, dict[str, str]]  # {"modules": …, "data": …, "libraries": …}
DOTTED_NAME = re.compile(r"\w+(\.\w+)+", re.ASCII)
IGNORED_DATA = ("__pycache__", ".DS_Store")


@dataclass(frozen=True)
class Library:
    """A library outside the project whose version is part of a digest.

    distributions: names under which it may be installed; the first that is there counts.
    brings: libraries, by import name, that come into play wherever this one is imported.
    """

    distributions: tuple[str, ...]
    brings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """Where the code lies, and what of it counts.

    root: folder of `packages`, the project's own top-level packages.
    libraries: by import name; others are taken to change no result.
    hooks: by a library's import name, modules that run when it is imported, though no import
        statement says so.
    exempt: modules that cannot change a result, and why. They and what they alone import are left
        out.
    """

    root: Path
    packages: tuple[str, ...]
    libraries: Mapping[str, Library] = field(default_factory=dict)
    hooks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)

    def digests(self, *roots: str) -> Digests:
        """Digests, by name, of all that the modules `roots` may run or read.

        Raises:
            KeyError: the project has no module of such a name.
            SyntaxError: one that it imports is not Python.
        """
        modules, libraries = self._closure(roots)
        data = {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self._data(modules))
        }
        return {
            "modules": {name: self._parsed(name).digest for name in sorted(modules)},
            "data": {name: digest[:16] for name, digest in data.items()},
            "libraries": {name: self._version(name) for name in sorted(libraries)},
        }

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every module of the project by its dotted name; a package's is its `__init__.py`."""
        found = {}
        for package in self.packages:
            for path in sorted((self.root / package).rglob("*.py")):
                parts = path.relative_to(self.root).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    def _closure(self, roots: Collection[str]) -> tuple[set[str], set[str]]:
        """The project's modules that `roots` lead to, and the libraries that count."""
        reached: set[str] = set()
        libraries: set[str] = set()
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            if name in reached or name in self.exempt:
                continue
            reached.add(name)
            parsed = self._parsed(name)
            for target in parsed.imports | (parsed.strings & self.files.keys()):
                own = [part for part in _with_parents(target) if part in self.files]
                waiting += own
                for library in () if own else self._library(target):
                    libraries.add(library)
                    waiting += self.hooks.get(library, ())
            waiting += [part for part in _with_parents(name) if part in self.files]
        return reached, libraries & self.libraries.keys()

    def _library(self, target: str) -> Iterator[str]:
        name = target.partition(".")[0]
        yield name
        for brought in self.libraries[name].brings if name in self.libraries else ():
            yield from self._library(brought)

    def _parsed(self, name: str) -> "_Module":
        if name not in self._modules:
            path = self.files[name]
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            self._modules[name] = _parse(path.read_bytes(), str(path), package)
        return self._modules[name]

    @cached_property
    def _modules(self) -> dict[str, "_Module"]:
        return {}

    def _data(self, modules: Collection[str]) -> Iterator[Path]:
        """Files that are no Python in the packages that `modules` lie in."""
        packages = {self.files[name].parent for name in modules}
        folders = {path.parent for path in self.files.values()}
        for package in packages:
            for path in package.rglob("*"):
                owner = next(parent for parent in path.parents if parent in folders)
                ignored = path.suffix in (".py", ".pyc") or set(IGNORED_DATA) & set(path.parts)
                if owner == package and path.is_file() and not ignored:
                    yield path

    def _version(self, library: str) -> str:
        """Without the build (`+cu128`): the same release on another machine is the same code."""
        for distribution in self.libraries[library].distributions:
            try:
                return version(distribution).partition("+")[0]
            except PackageNotFoundError:
                continue
        return "not installed"


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]  # dotted names, of modules or of what is in them
    strings: frozenset[str]  # that may be a module's dotted name


@cache
def _parse(source: bytes, file_name: str, package: str) -> _Module:
    tree = ast.parse(source, file_name)
    digest = hashlib.sha256()
    for part in _shape(tree):
        digest.update(part.encode())
        digest.update(b"\0")
    nodes = list(_executed(tree))
    imports = frozenset(name for node in nodes for name in _imported(node, package))
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    strings = frozenset(v for v in values if isinstance(v, str) and DOTTED_NAME.fullmatch(v))
    return _Module(digest.hexdigest()[:16], imports, strings)


def _shape(node: Any) -> Iterator[str]:  # noqa: ANN401
    """The tree in words: no positions, no bare strings, and no fields that are empty, which
    differ between versions of Python."""
    match node:
        case ast.Expr(ast.Constant(str())):  # a docstring, or another that nothing is done with
            pass
        case ast.Constant():
            yield f"{type(node.value).__name__} {node.value!r}"
        case ast.AST():
            yield type(node).__name__
            for name, value in ast.iter_fields(node):
                if value not in (None, []):
                    yield name
                    yield from _shape(value)
            yield "."
        case list():
            for item in node:
                yield from _shape(item)
        case _:
            yield repr(node)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for type checkers' sake alone."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        match node:
            case ast.If(ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                waiting += node.orelse
            case _:
                waiting += ast.iter_child_nodes(node)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """What an import statement names, wherever it stands."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`: importing it runs them all."""
    return accumulate(name.split("."), "{}.{}".format)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of modules, data files and libraries that two `Project.digests` do not share."""
    found: list[str] = []
    for kind in new:
        before, after = old.get(kind, {}), new[kind]
        names: Iterable[str] = sorted({*before, *after})
        found += [name for name in names if before.get(name) != after.get(name)]
    return found
