import ctypes
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
from echo_lib.allocation import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults(steps):
    for _ in range(steps):
        blocks = [np.ones(2**18) for _ in range(10)]  # 10 x 2 MiB, freed together
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

first = faults(3)
print(faults(10) - first)
"""


def faults_of(mode):
    call = [sys.executable, "-c", STEPS, mode]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc"
)
def test_pages_that_a_step_frees_are_not_asked_for_again():
    # 10 steps x 20 MiB are 51,200 pages of 4 KiB; huge pages make fewer of them.
    before, kept = faults_of("leave"), faults_of("keep")
    if before < 1000:
        pytest.skip(f"this C library keeps its pages anyway ({before} page faults)")
    assert kept < before / 10
