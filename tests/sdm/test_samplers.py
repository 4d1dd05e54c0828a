"""Samplers against an exact Gaussian denoiser: for N(mu, sigma^2) the optimal noise is known."""

import pytest
import torch

from echo_lib.sdm.diffusion import GaussianDiffusion, cosine_betas
from echo_lib.sdm.samplers import ddim, ddpm, dpm_solver_pp, guided

MU, SIGMA = 0.3, 0.2
PROCESS = GaussianDiffusion(cosine_betas(1000))


def exact(x, t):
    """The optimal epsilon of x_t when x_0 ~ N(MU, SIGMA^2)."""
    alpha_bar = PROCESS.alphas_bar[t].float().view(-1, 1, 1, 1)
    gain = alpha_bar.sqrt() * SIGMA**2 / (alpha_bar * SIGMA**2 + 1 - alpha_bar)
    x_0 = MU + gain * (x - alpha_bar.sqrt() * MU)
    return (x - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()


def moments(sampler, steps, *, spacing="time", **options):
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(32, 1, 32, 32, generator=generator)
    x_T = (x_T - x_T.mean()) / x_T.std()
    found = sampler(
        exact,
        x_T,
        process=PROCESS.respaced(steps, spacing=spacing),
        noise=lambda: torch.randn(x_T.shape, generator=generator),
        **options,
    )
    return found.mean().item(), found.std().item()


@pytest.mark.parametrize(
    ("sampler", "steps", "spacing", "options"),
    [
        (ddpm, 1000, "time", {}),
        (ddim, 1000, "time", {}),
        (ddim, 1000, "time", {"eta": 1.0}),
        (dpm_solver_pp, 1000, "time", {}),
        (dpm_solver_pp, 50, "log_snr", {}),
    ],
)
def test_mean_and_std_of_the_data_come_back(sampler, steps, spacing, options):
    mean, std = moments(sampler, steps, spacing=spacing, **options)
    assert mean == pytest.approx(MU, rel=0.02)
    assert std == pytest.approx(SIGMA, rel=0.02)


def test_few_steps_keep_the_mean_and_the_second_order_solver_keeps_more_of_the_std():
    first_order, second_order = moments(ddim, 15), moments(dpm_solver_pp, 15, spacing="log_snr")
    assert first_order[0] == pytest.approx(MU, rel=0.02)
    assert second_order == pytest.approx((MU, SIGMA), rel=0.04)
    assert abs(second_order[1] - SIGMA) < abs(first_order[1] - SIGMA)


def test_respaced_process_keeps_both_ends_and_the_noise_levels():
    respaced = PROCESS.respaced(25, spacing="log_snr")
    assert respaced.timesteps[0] == 0
    assert respaced.timesteps[-1] == 999
    torch.testing.assert_close(respaced.alphas_bar, PROCESS.alphas_bar[respaced.timesteps])
    with pytest.raises(ValueError, match=r"1 steps: expected 2\.\.1000"):
        PROCESS.respaced(1)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_every_prediction_gives_x_0_back(prediction):
    process = GaussianDiffusion(cosine_betas(1000), prediction=prediction, vlb_weight=0.0)
    generator = torch.Generator().manual_seed(3)
    x_0 = torch.rand(2, 1, 4, 4, generator=generator) * 2 - 1
    noise, t = torch.randn(x_0.shape, generator=generator), torch.tensor([10, 600])
    target = process.target(x_0, t, noise)
    x_t = process.q_sample(x_0, t, noise)
    torch.testing.assert_close(process.predict_x_0(target, x_t, t), x_0, atol=1e-4, rtol=0)
    assert process.losses(target, x_0, t, noise)["loss"].max() == 0


def test_guidance_by_hand():
    def model(x, t, condition):
        return torch.cat([x + condition, x], dim=1)

    x, t = torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.long)
    found = guided(model, 3.0, 1.0, scale=0.5)(x, t)
    assert found[0, 0, 0, 0] == 3 + 0.5 * (3 - 1)  # Eq. 1
    assert found[0, 1, 0, 0] == 0  # the variance channel is the conditional one
    assert guided(model, 3.0, None, scale=0)(x, t)[0, 0, 0, 0] == 3
