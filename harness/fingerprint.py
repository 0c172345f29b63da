"""What code made a record: a hash over the modules that a trial's classes are defined in.

Starting from the class paths in the configuration and from what opens trials, imports are
followed within the paper's folder, ``baselines``, ``harness.procedures``, what reads data and
what decides seeding. Comments, layout and docstrings do not count, so that a better explanation
makes no record stale. Of a paper's folder all other files count that git tracks, its README and
spec apart: code may read them.

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

from harness import paths, provenance
from harness.specs.packages import home

FOLLOWED = (
    "experiments",
    "baselines",
    "harness.procedures",
    "harness.seeding",
    "harness.loading",
    "harness.opening",
    "harness.specs.build",
)
ALWAYS = ("harness.opening",)
PAPERS = "experiments"
UNREAD = ("README.md", "spec.yaml")  # of a paper: what it says is in the configuration, or nowhere

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


def code_fingerprint(class_paths: Iterable[str], packages: tuple[str, ...] = ()) -> str:
    """Hash of everything that the named classes run, 16 hex digits.

    Args:
        packages: the paper's own, which are followed like its folder.
    """
    digest = hashlib.sha256()
    modules = reachable({*ALWAYS, *(path.rpartition(".")[0] for path in class_paths)}, packages)
    for module in sorted(modules):
        digest.update(f"{module} {_module(module, packages)[0]}\n".encode())
    folders = {module.split(".")[1] for module in modules if module.startswith(f"{PAPERS}.")}
    for name, content in (pair for folder in sorted(folders) for pair in _beside(folder)):
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:16]


def _beside(folder: str) -> Iterable[tuple[str, str]]:
    """Files in a paper's folder that are no code, with a hash of each."""
    root = paths.root() / PAPERS / folder
    for name in provenance.tracked(f"{PAPERS}/{folder}"):
        path = root / name
        if name not in UNREAD and path.suffix != ".py" and path.is_file():
            yield f"{folder}/{name}", _content(str(path), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _content(path: str, changed: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def reachable(start: Iterable[str], packages: tuple[str, ...] = ()) -> set[str]:
    """The followed modules that these import, directly or not, themselves included."""
    seen: set[str] = set()
    todo = [name for name in start if _source(name, packages)]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [other for other in _module(name, packages)[1] if other not in seen]
            package = name.rpartition(".")[0]  # importing a module runs that, too
            todo += [package] if _source(package, packages) else []
    return seen


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _source(module: str, packages: tuple[str, ...]) -> str | None:
    """The file of a followed module, if it is one."""
    top = module.partition(".")[0]
    own = home(top) if top in packages else None
    if not (own or _within(module, FOLLOWED)) or _within(module, NOT_FOLLOWED):
        return None
    for root in [str(own)] if own else dict.fromkeys((str(paths.root()), _CODE)):
        stem = os.path.join(root, *module.split("."))
        for path in (f"{stem}.py", os.path.join(stem, "__init__.py")):
            if os.path.isfile(path):
                return path
    return None


def _module(name: str, packages: tuple[str, ...]) -> tuple[str, list[str]]:
    """Hash of a module's code, and the followed modules it imports."""
    path = _source(name, packages)
    return ("", []) if path is None else _parsed(name, path, os.stat(path).st_mtime_ns, packages)


@functools.lru_cache(maxsize=4096)
def _parsed(name: str, path: str, changed: int, packages: tuple[str, ...]) -> tuple[str, list[str]]:
    with open(path, "rb") as file:
        text = file.read()
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    given = " ".join((package, *packages))
    content = hashlib.sha256(text + f"{given}\n{_METHOD}".encode()).hexdigest()
    known = _remembered(paths.runs() / MEMORY)
    if content not in known:
        known[content] = _parse(text, package, packages)
        _remember(paths.runs() / MEMORY, known)
    code, imports = known[content]
    return code, [other for other in imports if _source(other, packages)]


def _parse(text: bytes, package: str, packages: tuple[str, ...]) -> tuple[str, list[str]]:
    """Hash of a file's code, and what it imports that may be among the followed modules."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return hashlib.sha256(text).hexdigest(), []
    followed = (*FOLLOWED, *packages)
    imports = sorted({name for name in _imports(tree, package) if _within(name, followed)})
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
