"""How processes share a batch and add up their gradients."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from echo_lib import distributed


@pytest.mark.parametrize("world", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("count", [1, 4, 32, 96])
def test_shares_are_even_and_make_up_the_whole(monkeypatch, world, count):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.share(count))
    assert [item for part in parts for item in part] == list(range(count))
    assert {len(part) for part in parts} <= {count // world, -(-count // world)}


def test_messages_hold_tensors_of_one_dtype_up_to_their_size():
    sizes = [3, 4, 1, 9, 2]
    tensors = [torch.zeros(size) for size in sizes] + [torch.zeros(1, dtype=torch.float64)]
    lists = distributed.buckets(tensors, most_bytes=8 * 4)
    assert [[tensor.numel() for tensor in part] for part in lists] == [[3, 4, 1], [9], [2], [1]]


def add_up(rank, folder):
    """One of two processes: its gradients go in, the sums come out as a file."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Conv2d(3, 1, 1))
    model = model.to(memory_format=torch.channels_last)
    for number, parameter in enumerate(model.parameters()):
        values = torch.arange(parameter.numel(), dtype=torch.float32).view(parameter.shape)
        # The second process saw nothing of the last layer, and lays its gradients out otherwise.
        if rank == 0:
            parameter.grad = values.clone(memory_format=torch.preserve_format)
        elif number < 2:
            parameter.grad = (10 * values).to(memory_format=layout(parameter))
    calls, all_reduce = [], dist.all_reduce
    dist.all_reduce = lambda tensor: (calls.append(tensor.numel()), all_reduce(tensor))
    distributed.sum_gradients(model)
    gradients = [parameter.grad for parameter in model.parameters()]
    torch.save({"gradients": gradients, "calls": calls}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def layout(parameter):
    return torch.channels_last if parameter.ndim == 4 else torch.contiguous_format


def test_gradients_add_up_in_one_message(tmp_path):
    torch.multiprocessing.spawn(add_up, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        sizes = [54, 3, 3, 1]
        assert found["calls"] == [sum(sizes)]
        for factor, size, gradient in zip((11, 11, 1, 1), sizes, found["gradients"], strict=True):
            expected = factor * torch.arange(size, dtype=torch.float32)
            assert torch.equal(gradient.reshape(-1), expected)
