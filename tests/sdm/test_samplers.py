"""Samplers against an exact Gaussian denoiser: for N(mu, sigma^2) the optimal noise is known."""

import functools
import itertools
import math

import pytest
import torch

from echo_lib.provenance import PACKAGE
from echo_lib.sdm.diffusion import GaussianDiffusion, cosine_betas, linear_betas
from echo_lib.sdm.samplers import ddim, ddpm, dpm_solver_pp, guided

MU, SIGMA = 0.3, 0.2
PROCESS = GaussianDiffusion(cosine_betas(1000))


def exact(x, t):
    """The optimal epsilon of x_t when x_0 ~ N(MU, SIGMA^2)."""
    alpha_bar = PROCESS.alphas_bar[t].float().view(-1, 1, 1, 1)
    gain = alpha_bar.sqrt() * SIGMA**2 / (alpha_bar * SIGMA**2 + 1 - alpha_bar)
    x_0 = MU + gain * (x - alpha_bar.sqrt() * MU)
    return (x - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()


def moments(sampler, steps, *, spacing="log_snr", **options):
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


def ddim_std(process):
    """The std that DDIM gives: SIGMA times the cosine of every step in arctan(SIGMA sqrt(SNR))."""
    snr = process.alphas_bar / (1 - process.alphas_bar)
    angles = [math.pi / 2, *torch.atan(SIGMA * snr.sqrt()).tolist()]
    return SIGMA * math.prod(math.cos(a - b) for a, b in itertools.pairwise(angles))


@pytest.mark.parametrize(
    ("sampler", "steps", "options"),
    [
        (ddpm, 1000, {}),
        (ddpm, 1000, {"fraction": 0.5}),
        (ddpm, 50, {"fraction": 0.5}),
        (ddpm, 10, {"fraction": 0.5}),
        (ddim, 1000, {}),
        (ddim, 1000, {"eta": 1.0}),
        (dpm_solver_pp, 1000, {}),
        (dpm_solver_pp, 50, {}),
        (dpm_solver_pp, 25, {}),
        (dpm_solver_pp, 10, {}),
    ],
)
def test_mean_and_std_of_the_data_come_back(sampler, steps, options):
    mean, std = moments(sampler, steps, **options)
    assert mean == pytest.approx(MU, rel=0.02)
    assert std == pytest.approx(SIGMA, rel=0.02)


@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_in_few_steps_narrows_by_its_closed_form(steps, spacing):
    mean, std = moments(ddim, steps, spacing=spacing)
    expected = ddim_std(PROCESS.respaced(steps, spacing=spacing))
    assert mean == pytest.approx(MU, rel=0.02)
    assert std == pytest.approx(expected, rel=1e-3)
    # By Jensen's inequality equal angles are the best of all grids: 11.7 % short at 10 steps,
    # 2.4 % at 50. So no grid brings a first-order, deterministic step within 2 %.
    best = math.cos(math.pi / (2 * steps)) ** steps
    assert best == pytest.approx({10: 0.8835, 50: 0.9756}[steps], abs=1e-4)
    assert expected / SIGMA < best


def documented():
    """Lines of the table in docs/samplers.md: sampler, grid, {steps: error of the std in %}."""
    text = (PACKAGE.parent / "docs/samplers.md").read_text(encoding="utf-8")
    table = text.partition("<!-- gaussian -->")[2].partition("<!-- end -->")[0]
    head, _, *lines = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
    steps = [int(number) for number in head[2:]]
    return [(k, g, dict(zip(steps, map(float, n), strict=True))) for k, g, *n in lines]


@pytest.mark.parametrize(("name", "grid", "errors"), documented())
def test_documented_errors_are_those_of_the_samplers(name, grid, errors):
    sampler, options, tolerance = {
        "dpm_solver_pp": (dpm_solver_pp, {}, 0.1),
        "ddim, eta 0": (ddim, {}, 0.1),
        "ddpm, variance halfway": (ddpm, {"fraction": 0.5}, 1.5),  # a sample's own error: 0.4
        "ddpm, the posterior's variance": (ddpm, {}, 1.5),
        "ddpm, variance beta": (ddpm, {"fraction": 1.0}, 1.5),
    }[name]
    for steps, error in errors.items():
        if grid == "best of all grids":
            found = 100 * (math.cos(math.pi / (2 * steps)) ** steps - 1)
        elif steps == 1000:
            continue  # above
        else:
            found = 100 * (moments(sampler, steps, spacing=grid, **options)[1] / SIGMA - 1)
        assert found == pytest.approx(error, abs=tolerance)


def test_no_grid_brings_ddim_within_two_percent_below_62_steps():
    best = {steps: math.cos(math.pi / (2 * steps)) ** steps for steps in (61, 62)}
    assert best[61] < 0.98 < best[62]


def test_ancestral_steps_narrow_and_widen_around_the_middle():
    low, middle, high = (moments(ddpm, 25, fraction=f)[1] for f in (0.0, 0.5, 1.0))
    assert low < 0.85 * SIGMA
    assert high > 1.15 * SIGMA
    assert middle == pytest.approx(SIGMA, rel=0.02)


def test_a_learned_variance_is_not_moved():
    def model(x, t):
        return torch.cat([exact(x, t), torch.zeros_like(x)], dim=1)  # v = 0: halfway, Eq. 15

    x_T = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def draw(call, fraction):
        generator = torch.Generator().manual_seed(1)
        noise = lambda: torch.randn(x_T.shape, generator=generator)  # noqa: E731
        return ddpm(call, x_T, process=PROCESS.respaced(8), noise=noise, fraction=fraction)

    torch.testing.assert_close(draw(model, 0.0), draw(exact, 0.5))
    torch.testing.assert_close(draw(model, 1.0), draw(exact, 0.5))


def test_solver_gives_the_mean_exactly_where_the_data_have_no_spread():
    def point(x, t):
        alpha_bar = PROCESS.alphas_bar[t].float().view(-1, 1, 1, 1)
        return (x - alpha_bar.sqrt() * MU) / (1 - alpha_bar).sqrt()

    x_T = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for sampler in (ddim, dpm_solver_pp):
        process = PROCESS.respaced(5, spacing="log_snr")
        found = sampler(point, x_T, process=process, noise=None)
        torch.testing.assert_close(found, torch.full_like(x_T, MU), atol=1e-2, rtol=0)


@pytest.mark.parametrize("betas", [cosine_betas(1000), linear_betas(1000), cosine_betas(40)])
def test_log_snr_grid_has_as_many_steps_as_asked_for(betas):
    process = GaussianDiffusion(betas)
    for steps in (2, 3, 10, 25, len(betas) - 1, len(betas)):
        respaced = process.respaced(steps, spacing="log_snr")
        assert respaced.n_steps == steps
        assert (respaced.timesteps.diff() > 0).all()
        assert respaced.timesteps[[0, -1]].tolist() == [0, len(betas) - 1]
        torch.testing.assert_close(respaced.alphas_bar, process.alphas_bar[respaced.timesteps])
    with pytest.raises(ValueError, match=r"1 steps: expected 2\.\.\d+"):
        process.respaced(1)


def test_log_snr_grid_is_even_and_ends_at_the_mirror_image():
    respaced = PROCESS.respaced(12, spacing="log_snr")
    halves = 0.5 * (respaced.alphas_bar / (1 - respaced.alphas_bar)).log()
    assert halves[0].item() == pytest.approx(5.05, abs=0.01)
    assert halves[-2].item() == pytest.approx(-5.05, abs=0.1)
    widths = -halves[:-1].diff()
    assert widths.min() > 0.85
    assert widths.max() < 1.15
    assert halves[-1] < -9  # pure noise


def test_predictions_are_kept_within_the_range_of_images():
    def wild(x, t):
        return torch.full_like(x, 50.0)

    x_T = torch.zeros(1, 1, 2, 2)
    for sampler in (ddim, dpm_solver_pp):
        process = PROCESS.respaced(6, spacing="log_snr")
        found = sampler(wild, x_T, process=process, noise=lambda: torch.zeros(1, 1, 2, 2))
        assert found.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("sampler", [ddim, ddpm, dpm_solver_pp])
def test_a_sampler_draws_the_same_whatever_its_network_predicts(sampler, prediction):
    """What a network predicts is only another way to say x_0."""
    process = GaussianDiffusion(cosine_betas(1000), prediction=prediction, vlb_weight=0.0)

    def other(x, t):
        epsilon = exact(x, t)
        x_0 = PROCESS.predict_x_0(epsilon, x, t)
        return process.target(x_0, t, epsilon)

    found = []
    for model, whole in ((exact, PROCESS), (other, process)):
        generator = torch.Generator().manual_seed(0)
        x_T = torch.randn(4, 1, 8, 8, generator=generator)
        noise = functools.partial(torch.randn, x_T.shape, generator=generator)
        respaced = whole.respaced(20, spacing="log_snr")
        found.append(sampler(model, x_T, process=respaced, noise=noise))
    torch.testing.assert_close(found[1], found[0], atol=2e-3, rtol=0)


def test_the_bound_of_a_learned_variance_does_not_depend_on_what_is_predicted():
    generator = torch.Generator().manual_seed(5)
    x_0 = torch.rand(3, 1, 4, 4, generator=generator) * 2 - 1
    noise, v = (torch.randn(x_0.shape, generator=generator) for _ in range(2))
    t, bounds = torch.tensor([0, 200, 800]), []
    for prediction in ("epsilon", "x0", "v"):
        process = GaussianDiffusion(cosine_betas(1000), prediction=prediction, vlb_weight=1.0)
        wrong = process.target(0.9 * x_0, t, noise + 0.1 * _sigma_ratio(process, x_0, t))
        output = torch.cat([wrong, v], dim=1)
        bounds.append(process.losses(output, x_0, t, noise)["vlb"])
    assert bounds[0].min() > 0
    torch.testing.assert_close(bounds[1], bounds[0], atol=0, rtol=1e-3)
    torch.testing.assert_close(bounds[2], bounds[0], atol=0, rtol=1e-3)


def _sigma_ratio(process, x_0, t):
    """10 (signal / sigma) 0.1 x_0: with it, 0.9 x_0 and the noise lead to the same x_t."""
    alpha_bar = process.alphas_bar[t].float().view(-1, 1, 1, 1)
    return (alpha_bar / (1 - alpha_bar)).sqrt() * x_0


def test_the_weight_of_a_v_loss_by_hand():
    process = GaussianDiffusion(
        cosine_betas(1000), prediction="x0", vlb_weight=0.0, v_weight_limit=25.0
    )
    x_0, noise = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    t = torch.tensor([0, 500, 999])
    found = process.losses(x_0 + 2.0, x_0, t, noise)
    assert found["mse"].tolist() == [4.0, 4.0, 4.0]
    noise_part = 1 - process.alphas_bar[500].item()  # an error of x_0 is one of v times its root
    assert found["loss"].tolist() == pytest.approx([100.0, 4.0 / noise_part, 4.0], rel=1e-4)


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
