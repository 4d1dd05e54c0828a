"""A cluster's profile: it names rules that exist, and this host's limits do not bind it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = yaml.safe_load((REPOSITORY / "workflow/profiles/slurm/config.yaml").read_text("utf-8"))
SNAKEFILE = (REPOSITORY / "workflow" / "Snakefile").read_text(encoding="utf-8")
# Rule to its text, up to the next one.
RULES = dict(re.findall(r"^ *rule (\w+):(.*?)(?=^ *rule |\Z)", SNAKEFILE, re.MULTILINE | re.DOTALL))
LONG = (
    "sdm_training_of_view", "sdm_training", "sampling_of_shard", "gallery", "cyclegan_training",
    "segmentation",
)  # fmt: skip


def named_rules():
    arrays = [name.strip() for name in PROFILE["slurm-array-jobs"].split(",")]
    return {*PROFILE["set-threads"], *PROFILE["set-resources"], *arrays}


def test_every_rule_that_the_profile_names_exists():
    assert len(RULES) >= 15
    assert named_rules() >= set(LONG)
    assert named_rules() - set(RULES) == set()


@pytest.mark.parametrize("rule", LONG)
def test_training_and_sampling_carry_resources_and_are_tried_again(rule):
    default, own = PROFILE["default-resources"], PROFILE["set-resources"][rule]
    assert own["mem_mb"] > default["mem_mb"]
    assert own["runtime"] > default["runtime"]
    assert re.search(r"resources:[^\n]*\s+gpu=(1|GPUS),", RULES[rule])
    assert PROFILE["retries"] >= 1
    assert "retries:" not in RULES[rule]  # it would take the place of the profile's


def test_shards_and_networks_are_submitted_as_arrays():
    arrays = PROFILE["slurm-array-jobs"].split(",")
    assert {"sampling_of_shard", "segmentation"} <= set(arrays)
    assert "{shard}" in RULES["sampling_of_shard"]
    assert "{row}" in RULES["segmentation"]


def snakemake_call(*variables):
    """What ``make figures`` would call, on a host with three cores and a GPU."""
    call = ["make", "--dry-run", "figures", "CORES=3", "GPU=one", *variables]
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=env)
    (line,) = [line for line in done.stdout.splitlines() if "--snakefile" in line]
    return line


def test_the_limits_of_this_host_bind_the_local_workflow_alone():
    local, cluster = snakemake_call(), snakemake_call("WORKFLOW=slurm")
    assert "--profile workflow/profiles/default " in local
    assert "--cores 3 --resources gpu_job=1 " in local
    assert "--profile workflow/profiles/slurm " in cluster
    assert "--cores" not in cluster
    assert "gpu_job" not in cluster
