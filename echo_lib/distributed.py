"""Processes that share a batch; a plain single process where torchrun did not start several."""

import contextlib
import os

import torch
import torch.distributed as dist

MESSAGE_BYTES = 64 * 2**20  # of gradients, summed in one go


def world_size():
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first():
    """True in the one process that writes files."""
    return rank() == 0


def device():
    """This process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


@contextlib.contextmanager
def process_group():
    """Join the group that torchrun announces (nccl on GPUs, gloo on CPUs); else do nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier():
    """Wait for every process."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def first_process_first():
    """The first process runs the body, then all the others do."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def agreed(flag, device):
    """The first process's answer in every process, so that all of them stop at the same step."""
    if not dist.is_initialized():
        return flag
    answer = torch.tensor([int(flag)], device=device)
    dist.broadcast(answer, src=0)
    return bool(answer.item())


def share(count):
    """This process's part of ``count`` items, a range; no part is larger by more than one.

    Where there are more processes than items, some have none.
    """
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def sum_gradients(model):
    """Add the gradients of all processes; a process without a share contributes zeros.

    Many travel in one message: hundreds of small ones would each wait for the network.
    """
    if not dist.is_initialized():
        return
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in buckets([parameter.grad for parameter in model.parameters()]):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def buckets(tensors, *, most_bytes=MESSAGE_BYTES):
    """``tensors`` in their order, cut into lists of one dtype and at most so many bytes.

    A tensor that is larger by itself makes a list of its own.
    """
    lists, free = [], 0
    for tensor in tensors:
        if not lists or tensor.nbytes > free or tensor.dtype != lists[-1][0].dtype:
            lists.append([])
            free = most_bytes
        lists[-1].append(tensor)
        free -= tensor.nbytes
    return lists


def summed(tensor):
    """The sum of ``tensor`` over all processes."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
