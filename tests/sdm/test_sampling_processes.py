"""Sampling by processes of their own: at once, killed, and under torchrun."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from echo_lib.config import as_yaml
from echo_lib.provenance import PACKAGE, require
from echo_lib.sdm import sampling, training


@pytest.fixture(scope="module")
def trained(new_run, tmp_path_factory):
    """A run whose images take long enough to be interrupted."""
    run = new_run(
        tmp_path_factory.mktemp("trained"),
        sdm__training__steps=2,
        sdm__sampling__sampler="ddpm",
        sdm__sampling__steps=100,
    )
    for view in ("2CH", "4CH"):
        training.train(run, view)
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.run_root, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(trained, run_root=tmp_path)


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """The digest of the images that one process makes."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(trained.run_root, root, dirs_exist_ok=True)
    return sampling.sample_dataset(dataclasses.replace(trained, run_root=root))["outputs_digest"]


def command(run, *options, launcher=()):
    profile = run.folder / "profile.yaml"
    profile.write_text(as_yaml(run.profile), encoding="utf-8")
    return [
        sys.executable, *launcher, "-m", "echo_lib.sdm.sampling", "--profile", str(profile),
        "--run-root", str(run.run_root), *options,
    ]  # fmt: skip


def started(*call):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)


def made(run):
    return {p: p.stat().st_mtime_ns for p in (run.folder / "synthetic/images").rglob("*.png")}


def test_two_shards_at_once_make_the_same_dataset(run, whole):
    processes = [started(*command(run, "--shard", f"{k}/2")) for k in (1, 2)]
    texts = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "(shard 2/2): " in texts[1]
    assert "images/s" in texts[1]
    assert require(run, "synthetic")["outputs_digest"] == whole


def test_a_killed_process_loses_its_batch_alone(run, whole):
    process, deadline = started(*command(run)), time.monotonic() + 120
    while len(made(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = made(run)
    assert 2 <= len(kept) < 6
    process = started(*command(run))
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert require(run, "synthetic")["outputs_digest"] == whole
    assert kept.items() <= made(run).items()  # finished files were not touched


def test_torchrun_makes_the_same_dataset(run, whole):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = started(*command(run, launcher=launcher))
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    assert require(run, "synthetic")["outputs_digest"] == whole
