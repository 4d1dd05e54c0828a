"""The network, the process and the samplers against numbers of the released implementation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from echo_lib.config import SemanticUNetConfig, load_profile
from echo_lib.data.datasets import one_hot
from echo_lib.sdm.diffusion import GaussianDiffusion, cosine_betas
from echo_lib.sdm.samplers import ddim, ddpm
from echo_lib.sdm.unet import SemanticUNet

DATA = Path(__file__).parents[1] / "data"
TINY = SemanticUNetConfig(
    image_channels=3, classes=5, width=32, multipliers=(1, 2), residual_blocks=1,
    attention_downsampling=(2,), head_width=32, spade_hidden_width=128, norm_groups=32,
    patch_size=1, learned_variance=True, dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "sdm_tiny_reference.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def model(reference):
    model = SemanticUNet(TINY)
    weights = {k.removeprefix("weights/"): v.float() for k, v in reference.items() if "/" in k}
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def process():
    return GaussianDiffusion(cosine_betas(1000))


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_weights_of_the_paper_map_one_to_one_onto_the_released_names_and_shapes():
    with torch.device("meta"):
        model = SemanticUNet(load_profile("paper").sdm.network)
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == json.loads((DATA / "sdm_256_state_dict.json").read_text())
    assert sum(parameter.numel() for parameter in model.parameters()) == 652_198_918


def test_network_output(model, reference):
    onehot = one_hot(reference["label"], 5)
    close(model(reference["q_sample"], reference["t"], onehot), reference["model_output"])


def test_cached_modulations_give_the_same_output(model, reference):
    onehot = one_hot(reference["label"], 5)
    direct = model(reference["q_sample"], reference["t"], onehot)
    cached = model(reference["q_sample"], reference["t"], model.encode_labels(onehot))
    torch.testing.assert_close(cached, direct, atol=1e-5, rtol=0)


def test_q_sample_and_losses(process, reference):
    x_t = process.q_sample(reference["x0"], reference["t"], reference["noise"])
    close(x_t, reference["q_sample"])
    losses = process.losses(
        reference["model_output"], reference["x0"], reference["t"], reference["noise"]
    )
    for ours, theirs in (("mse", "loss_mse"), ("vlb", "loss_vb"), ("loss", "loss_loss")):
        close(losses[ours], reference[theirs])


def test_posterior(process, reference):
    found = process.posterior(reference["model_output"], reference["q_sample"], reference["t"])
    close(found.mean, reference["p_mean"])
    close(found.log_variance, reference["p_log_variance"])
    close(found.x_0, reference["p_pred_xstart"])


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_ten_respaced_steps(model, process, reference, name):
    respaced = process.respaced(10)
    assert respaced.timesteps.tolist() == reference["respaced_timesteps"].tolist()
    condition = model.encode_labels(one_hot(reference["label"], 5))
    draws = iter(reference["step_noise"])
    sampler = {"ddpm": ddpm, "ddim": ddim}[name]
    found = sampler(
        lambda x, t: model(x, t, condition),
        reference["xT"],
        process=respaced,
        noise=lambda: next(draws),
    )
    error = (found - reference[f"{name}_sample"]).abs()
    # At t = 999 float32 rounding of the network is multiplied by 1 / sqrt(alpha-bar) = 2e4, so a
    # few pixels of 6144 stray further, as they do between float32 and float64 of either code.
    assert error.mean() < 1e-5
    assert error.quantile(0.995) < 1e-4
    assert error.max() < 2e-3
