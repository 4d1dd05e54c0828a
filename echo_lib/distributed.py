"""Processes that share a batch; a plain single process where torchrun did not start several."""

import contextlib
import os

import torch
import torch.distributed as dist


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


def sum_gradients(model):
    """Add the gradients of all processes; a process without a share contributes zeros."""
    if not dist.is_initialized():
        return
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def summed(tensor):
    """The sum of ``tensor`` over all processes."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
