"""Run the tests that compute with other instruction sets and numbers of threads.

Kernels round otherwise on other processors; a test that asks for one machine's last bit fails on
the next. Tests of files, terminals and processes are left out, for they do not depend on these.
"""

from __future__ import annotations

import os
import subprocess
import sys

TESTS = (
    "experiments",
    "baselines",
    *(f"harness/{n}" for n in ("procedures", "judging", "loading")),
)
SETTINGS: tuple[dict[str, str], ...] = (
    {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE"},
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2"},
)


def main() -> int:
    """Every setting in turn, whatever the one before came to; 1 if tests failed with any."""
    failed = []
    command = [sys.executable, "-m", "pytest", *(f"tests/{name}" for name in TESTS)]
    for setting in SETTINGS:
        name = " ".join(f"{key}={value}" for key, value in setting.items())
        print(f"== {name}", flush=True)
        if subprocess.run(command, env=os.environ | setting, check=False).returncode:
            failed.append(name)
    print("\n".join(f"failed with {name}" for name in failed) or "all passed with every setting")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
