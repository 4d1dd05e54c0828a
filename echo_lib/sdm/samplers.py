"""Samplers: plain functions over any callable ``model(x_t, t)``.

``model`` gives the raw output that ``GaussianDiffusion.posterior`` reads. ``process`` is already
respaced to the number of steps wanted; the model is told original step numbers. ``noise`` is called
once per step that draws, and gives (B, C, H, W) standard normal values.

How exact they are is known for data N(mu, s^2), whose optimal denoiser is linear
(tests/sdm/test_samplers.py, docs/samplers.md). DDIM's std is s times the product of the cosines of
its steps in the angle arctan(s sqrt(SNR)); no grid of n steps does better than cos(pi / 2n)^n.
"""

import math

import torch


def ddpm(model, x_T, *, process, noise, fraction=0.0):
    """Ancestral sampling (improved DDPM, section 3), respaced.

    Args:
        model: callable (x_t (B, C, H, W), t (B,)) -> raw output.
        x_T: (B, C, H, W) standard normal.
        process: ``GaussianDiffusion``, respaced.
        noise: callable () -> (B, C, H, W); called at every step, the last one's is unused.
        fraction: where the network has learned no variance, its place between the posterior's
            (0, right for data without spread) and beta (1, right for N(0, 1)), as in Eq. 15. In few
            steps 0 narrows the result and 1 widens it; halfway hardly does either.

    Returns:
        x_0 (B, C, H, W), not clipped.
    """
    x = x_T
    for step in reversed(range(process.n_steps)):
        output = _call(model, x, process, step)
        posterior = process.posterior(output, x, _batch(step, x))
        draw = noise()
        x = posterior.mean
        if step > 0:
            log_variance = posterior.log_variance
            if output.shape == x.shape:
                low = process.posterior_log_variance[step].item()
                log_variance = log_variance + fraction * (math.log(process.betas[step]) - low)
            x = x + torch.exp(0.5 * log_variance) * draw
    return x


def ddim(model, x_T, *, process, noise, eta=0.0):
    """DDIM (Song et al., arXiv 2010.02502, Eq. 12), respaced; deterministic at ``eta`` 0.

    Arguments and result as ``ddpm``; ``noise`` is called only where ``eta`` > 0.
    """
    x = x_T
    for step in reversed(range(process.n_steps)):
        t = _batch(step, x)
        x_0 = process.posterior(_call(model, x, process, step), x, t).x_0
        epsilon = process.predict_epsilon(x_0, x, t)
        now = process.alphas_bar[step].item()
        before = process.alphas_bar[step - 1].item() if step > 0 else 1.0
        sigma = eta * ((1 - before) / (1 - now) * (1 - now / before)) ** 0.5
        x = before**0.5 * x_0 + max(1 - before - sigma**2, 0.0) ** 0.5 * epsilon
        if eta > 0:
            draw = noise()
            x = x + sigma * draw if step > 0 else x
    return x


def dpm_solver_pp(model, x_T, *, process, noise=None):
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2); deterministic.

    Second order in the half log-SNR, so it wants a process respaced evenly in it
    (``GaussianDiffusion.respaced(n, spacing="log_snr")``). Arguments and result as ``ddpm``.
    """
    alphas_bar = process.alphas_bar
    lambdas = (0.5 * (alphas_bar / (1 - alphas_bar)).log()).tolist()
    x, x_0_before, width_before = x_T, None, None
    for step in reversed(range(process.n_steps)):
        x_0 = process.posterior(_call(model, x, process, step), x, _batch(step, x)).x_0
        if step == 0:
            return x_0
        now, after = alphas_bar[step].item(), alphas_bar[step - 1].item()
        width = lambdas[step - 1] - lambdas[step]
        estimate = x_0
        if x_0_before is not None:
            slope = 0.5 * width / width_before
            estimate = (1 + slope) * x_0 - slope * x_0_before
        decay = ((1 - after) / (1 - now)) ** 0.5
        x = decay * x - after**0.5 * math.expm1(-width) * estimate
        x_0_before, width_before = x_0, width
    return x


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm_solver_pp": dpm_solver_pp}


def guided(model, condition, null_condition, *, scale):
    """Classifier-free guidance (paper, Eq. 1) as a callable ``(x_t, t)``.

    The paper's ``scale`` s adds s times the difference to the conditional prediction, so s = 0 is
    the conditional model itself. The learned variance is the conditional one.
    """

    def call(x, t):
        output = model(x, t, condition)
        if scale == 0:
            return output
        channels = x.shape[1]
        prediction, variance = output[:, :channels], output[:, channels:]
        null = model(x, t, null_condition)[:, :channels]
        return torch.cat([prediction + scale * (prediction - null), variance], dim=1)

    return call


def _batch(step, x):
    return torch.full((len(x),), step, device=x.device)


def _call(model, x, process, step):
    return model(x, _batch(int(process.timesteps[step]), x))
