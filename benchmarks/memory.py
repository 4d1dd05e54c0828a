"""The memory that a call will take, known before it runs.

The call runs on tensors without data (``FakeTensorMode``), and what each operation allocates is
counted for as long as it lives. What a kernel needs within itself is not seen.
"""

import weakref
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_INFORMATION, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class _Count(TorchDispatchMode):
    """Bytes of the tensors alive that were made under it, and the most that there were."""

    def __init__(self):
        super().__init__()
        self.held, self.most, self.known = 0, 0, weakref.WeakSet()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage):
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._free, size).atexit = False
        self.held += size
        self.most = max(self.most, self.held)

    def _free(self, size):
        self.held -= size


def needed_bytes(work):
    """The most bytes of tensors alive at once while ``work`` runs; it computes nothing.

    Args:
        work: callable without arguments that makes every tensor it uses, on the CPU.
    """
    with FakeTensorMode(), _Count() as count:
        work()
    return count.most


def free_bytes(device):
    """What ``device`` has left; None where this system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not _INFORMATION.is_file():
        return None
    lines = dict(line.split(":") for line in _INFORMATION.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    limit, used = (_GROUP / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
