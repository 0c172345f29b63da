"""Pickles of arrays from other people: no code of theirs is run.

Unpickling may call any importable function that the file names. Here only constructors of NumPy
arrays, of SciPy's sparse matrices and of plain containers may be named; their arguments come from
the file, everything else is refused.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import IO, Any, Literal

_SPARSE = ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy{core}.multiarray", "_reconstruct") for core in (".core", "._core")),
    *((f"numpy{core}.multiarray", "scalar") for core in (".core", "._core")),
    *((f"numpy{core}.numeric", "_frombuffer") for core in (".core", "._core")),
    *((f"scipy.sparse.{kind}", f"{kind}_matrix") for kind in _SPARSE),
    *((f"scipy.sparse._{kind}", f"{kind}_matrix") for kind in _SPARSE),
    ("collections", "defaultdict"),
    ("collections", "OrderedDict"),
    ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
    *(("builtins", name) for name in ("list", "dict", "set", "frozenset", "tuple", "object")),
    *(("builtins", name) for name in ("int", "float", "complex", "str", "bytes", "bytearray")),
}
_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class ForbiddenPickle(pickle.UnpicklingError):
    """A pickle names something that is not on the list of what may be constructed."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _OLD_NAMES.get(module, module)
        if (module, name) not in _ALLOWED:
            raise ForbiddenPickle(f"the pickle names {module}.{name}, which is not allowed")
        if module.startswith("scipy.sparse."):
            module = "scipy.sparse"  # where these classes live in every version
        return super().find_class(module, name)


def load_arrays(
    source: Path | IO[bytes], encoding: Literal["latin1", "bytes", "ASCII"] = "latin1"
) -> Any:
    """Unpickle arrays, sparse matrices and plain containers.

    Args:
        source: a file, or its path.
        encoding: how strings of Python 2 are read; arrays need ``latin1`` or ``bytes``.

    Raises:
        ForbiddenPickle: when the file names anything else; its message gives the name.
        pickle.UnpicklingError: when the file is damaged.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return load_arrays(file, encoding)
    with warnings.catch_warnings():  # old names of NumPy's modules, which the files cannot change
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return _ArraysOnly(source, encoding=encoding).load()


def load_object_array(path: Path) -> Any:
    """The content of an ``.npy`` file that holds pickled objects; a single object is unwrapped.

    Raises:
        ForbiddenPickle: when the file names anything but arrays and plain containers.
        ValueError: when the file is not an ``.npy`` file of objects.
    """
    import numpy as np

    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{path.name}: unknown version {version} of the npy format")
        shape, _, dtype = read_header(file)
        if not dtype.hasobject:
            raise ValueError(f"{path.name} holds {dtype}, no objects: read it with numpy.load")
        array = load_arrays(file)
    return array.item() if shape == () else array
