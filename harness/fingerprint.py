"""What code made a record: a hash over the modules that a trial's classes are defined in.

Starting from the class paths in the configuration, imports are followed within the paper's
folder, ``baselines``, ``harness.procedures`` and what reads data. Comments, layout and
docstrings do not count, so that a better explanation makes no record stale.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from harness import paths

FOLLOWED = (
    "experiments",
    "baselines",
    "harness.procedures",
    "harness.seeding",
    *(f"harness.data.{name}" for name in ("splits", "readers", "pickles", "huggingface")),
)

# Types that procedures share, and how an interrupted one goes on (which tests hold to be without
# effect, bit for bit): nothing in them bears on what is measured.
NOT_FOLLOWED = ("harness.procedures.base", "harness.procedures.checkpoints")


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


def _source(module: str) -> Path | None:
    """The file of a followed module, if it is one."""
    if not module.startswith(FOLLOWED) or module.startswith(NOT_FOLLOWED):
        return None
    parts = module.split(".")
    for root in (paths.root(), Path(__file__).resolve().parents[1]):
        path = root.joinpath(*parts)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's code, and the followed modules it imports."""
    path = _source(name)
    return ("", ()) if path is None else _parsed(name, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _parsed(name: str, path: Path, changed: int) -> tuple[str, tuple[str, ...]]:
    text = path.read_bytes()
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return hashlib.sha256(text).hexdigest(), ()
    imports = tuple(sorted({n for n in _imports(tree, name, path) if _source(n)}))
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _imports(tree: ast.AST, module: str, path: Path) -> Iterable[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
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
