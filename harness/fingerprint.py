"""What code made a record: a hash over the modules that a trial's classes are defined in.

Starting from the class paths in the configuration, imports are followed within the paper's
folder, ``baselines``, ``harness.procedures`` and what reads data. Comments, layout and
docstrings do not count, so that a better explanation makes no record stale.

Parsing all modules takes seconds where there are many papers, so what a file's content comes to
is remembered in ``runs/``, by a hash of that content.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from harness import paths

FOLLOWED = (
    "experiments",
    "baselines",
    "harness.procedures",
    "harness.seeding",
    "harness.loading",
)

# Types that procedures share, how an interrupted one goes on, and what trials share (which tests
# hold to be without effect, bit for bit): nothing in them bears on what is measured.
NOT_FOLLOWED = (
    "harness.procedures.base",
    "harness.procedures.checkpoints",
    "harness.procedures.parts",
)

MEMORY = "fingerprints.json"
MOST = 2000
_CODE = str(Path(__file__).resolve().parents[1])

# What else a hash depends on: syntax trees differ between versions of Python.
_METHOD = f"{sys.version} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


def code_fingerprint(class_paths: Iterable[str]) -> str:
    """Hash of everything that the named classes run, 16 hex digits."""
    digest = hashlib.sha256()
    for module in sorted(reachable({path.rpartition(".")[0] for path in class_paths})):
        digest.update(f"{module} {_module(module)[0]}\n".encode())
    return digest.hexdigest()[:16]


def reachable(start: Iterable[str]) -> set[str]:
    """The followed modules that these import, directly or not, themselves included."""
    seen: set[str] = set()
    todo = [name for name in start if _source(name)]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [other for other in _module(name)[1] if other not in seen]
    return seen


def _source(module: str) -> str | None:
    """The file of a followed module, if it is one."""
    if not module.startswith(FOLLOWED) or module.startswith(NOT_FOLLOWED):
        return None
    for root in dict.fromkeys((str(paths.root()), _CODE)):
        stem = os.path.join(root, *module.split("."))
        for path in (f"{stem}.py", os.path.join(stem, "__init__.py")):
            if os.path.isfile(path):
                return path
    return None


def _module(name: str) -> tuple[str, list[str]]:
    """Hash of a module's code, and the followed modules it imports."""
    path = _source(name)
    return ("", []) if path is None else _parsed(name, path, os.stat(path).st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _parsed(name: str, path: str, changed: int) -> tuple[str, list[str]]:
    with open(path, "rb") as file:
        text = file.read()
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    content = hashlib.sha256(text + f"{package}\n{_METHOD}".encode()).hexdigest()
    known = _remembered(paths.runs() / MEMORY)
    if content not in known:
        known[content] = _parse(text, package)
        _remember(paths.runs() / MEMORY, known)
    code, imports = known[content]
    return code, [other for other in imports if _source(other)]


def _parse(text: bytes, package: str) -> tuple[str, list[str]]:
    """Hash of a file's code, and what it imports that may be among the followed modules."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return hashlib.sha256(text).hexdigest(), []
    imports = sorted({name for name in _imports(tree, package) if name.startswith(FOLLOWED)})
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


@functools.lru_cache(maxsize=8)
def _remembered(path: Path) -> dict[str, tuple[str, list[str]]]:
    """What earlier runs found out about files, by a hash of their content."""
    try:
        found = json.loads(path.read_text())
        return {str(content): (str(code), list(names)) for content, (code, names) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(path: Path, known: dict[str, tuple[str, list[str]]]) -> None:
    """Whatever goes wrong, and whoever writes at the same time: it is parsed again then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(dict(list(known.items())[-MOST:])))
        os.replace(temporary, path)


def _imports(tree: ast.AST, package: str) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - max(node.level - 1, 0)]
            origin = ".".join([*base, node.module or ""]).strip(".") if node.level else node.module
            yield str(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
