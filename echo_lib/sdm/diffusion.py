"""The noise process, its posterior and its losses (Nichol & Dhariwal, arXiv 2102.09672).

Symbols are the paper's: beta_t, alpha-bar_t, x_t, epsilon. Everything is computed in float32 from
coefficients made in float64.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Posterior(NamedTuple):
    """p(x_{t-1} | x_t): mean and log variance (B, C, H, W), and the predicted x_0."""

    mean: torch.Tensor
    log_variance: torch.Tensor
    x_0: torch.Tensor


class GaussianDiffusion:
    """q(x_t | x_0) = N(sqrt(alpha-bar_t) x_0, 1 - alpha-bar_t), and what inverts it.

    Args:
        betas: (T,) float64.
        prediction: what the network's output means: "epsilon", "x0" or "v".
        vlb_weight: weight of the variational bound beside the MSE (paper: 0.001).
        v_weight_limit: where the network predicts x_0, weigh its squared error by 1 / sigma_t^2,
            at most this, which makes it the error of v; 0 leaves it plain.
        timesteps: the T original step numbers that a respaced process stands for.
    """

    def __init__(
        self, betas, *, prediction="epsilon", vlb_weight=0.001, v_weight_limit=0.0, timesteps=None
    ):
        if prediction not in ("epsilon", "x0", "v"):
            raise ValueError(f"prediction {prediction!r}: expected epsilon, x0 or v")
        if v_weight_limit and prediction != "x0":
            raise ValueError(f"v_weight_limit is for prediction x0, not {prediction}: set it to 0")
        self.betas, self.prediction, self.vlb_weight = betas.double(), prediction, vlb_weight
        self.v_weight_limit = v_weight_limit
        self.timesteps = torch.arange(len(betas)) if timesteps is None else timesteps
        self.alphas_bar = torch.cumprod(1 - self.betas, dim=0)
        before = F.pad(self.alphas_bar[:-1], (1, 0), value=1.0)
        # Posterior q(x_{t-1} | x_t, x_0), Eqs. 10 and 11 of the improved DDPM.
        self.posterior_variance = self.betas * (1 - before) / (1 - self.alphas_bar)
        self.posterior_x_0 = self.betas * before.sqrt() / (1 - self.alphas_bar)
        self.posterior_x_t = (1 - before) * (1 - self.betas).sqrt() / (1 - self.alphas_bar)
        # The first posterior variance is 0; its log is taken from the second.
        self.posterior_log_variance = torch.cat(
            [self.posterior_variance[1:2], self.posterior_variance[1:]]
        ).log()
        self._tables = {}

    @classmethod
    def from_config(cls, config):
        """The process of a ``DiffusionConfig``."""
        betas = {"cosine": cosine_betas, "linear": linear_betas}[config.schedule](config.timesteps)
        return cls(
            betas,
            prediction=config.prediction,
            vlb_weight=config.vlb_weight,
            v_weight_limit=config.v_weight_limit,
        )

    @property
    def n_steps(self):
        return len(self.betas)

    def respaced(self, n_steps, *, spacing="time"):
        """The same process in ``n_steps`` of its steps, first and last included.

        The network is still told the original step numbers (``timesteps``).

        Args:
            n_steps: 2..T.
            spacing: "time" spreads the steps evenly over t (the released code's respacing);
                "log_snr" spreads all but the last over the log of the signal-to-noise ratio, from
                the first step's down to the mirror image of it. Beyond, the signal is less than a
                hundredth of the noise and the prediction hardly changes: one stride.
        """
        if not 2 <= n_steps <= self.n_steps:
            raise ValueError(f"{n_steps} steps: expected 2..{self.n_steps}")
        chosen = self._evenly(n_steps, spacing)
        alphas_bar = self.alphas_bar[chosen]
        betas = 1 - alphas_bar / F.pad(alphas_bar[:-1], (1, 0), value=1.0)
        return GaussianDiffusion(
            betas,
            prediction=self.prediction,
            vlb_weight=self.vlb_weight,
            v_weight_limit=self.v_weight_limit,
            timesteps=self.timesteps[chosen],
        )

    def _evenly(self, n_steps, spacing):
        if spacing == "time":
            stride = (self.n_steps - 1) / (n_steps - 1)
            return torch.tensor([round(i * stride) for i in range(n_steps)])
        if spacing != "log_snr":
            raise ValueError(f"spacing {spacing!r}: expected time or log_snr")
        log_snr = (self.alphas_bar / (1 - self.alphas_bar)).log()
        top = log_snr[0].item()
        grid = torch.linspace(top, max(-top, log_snr[-1].item()), n_steps - 1, dtype=torch.float64)
        nearest = (log_snr[None] - grid[:, None]).abs().argmin(dim=1)
        # Near t = 0 steps are further apart than the grid: each takes the next free one.
        order = torch.arange(n_steps - 1)
        skipped = torch.cummax(nearest - order, dim=0).values.clamp(max=self.n_steps - n_steps)
        return torch.cat([skipped + order, torch.tensor([self.n_steps - 1])])

    def q_sample(self, x_0, t, noise):
        """x_t of x_0 (B, C, H, W) at step t (B,), by Eq. 9."""
        signal, sigma = self._signal_and_sigma(t, x_0)
        return signal * x_0 + sigma * noise

    def target(self, x_0, t, noise):
        """What the network should put out, by ``prediction``."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "x0":
            return x_0
        signal, sigma = self._signal_and_sigma(t, x_0)
        return signal * noise - sigma * x_0

    def predict_x_0(self, output, x_t, t):
        """x_0, unclipped, from the network's prediction."""
        if self.prediction == "x0":
            return output
        signal, sigma = self._signal_and_sigma(t, x_t)
        if self.prediction == "epsilon":
            return (x_t - sigma * output) / signal
        return signal * x_t - sigma * output

    def predict_epsilon(self, x_0, x_t, t):
        """The noise that leads from x_0 to x_t."""
        signal, sigma = self._signal_and_sigma(t, x_t)
        return (x_t - signal * x_0) / sigma

    def posterior(self, output, x_t, t, *, clip=True):
        """p(x_{t-1} | x_t) from the network's raw output.

        Args:
            output: (B, C, H, W), or (B, 2C, H, W) with the learned variance's interpolation v.
            clip: keep the predicted x_0 in [-1, 1].
        """
        prediction, v = self._split(output, x_t)
        x_0 = self.predict_x_0(prediction, x_t, t)
        if clip:
            x_0 = x_0.clamp(-1, 1)
        mean = self._at("posterior_x_0", t, x_t) * x_0 + self._at("posterior_x_t", t, x_t) * x_t
        return Posterior(mean, self._log_variance(v, x_t, t), x_0)

    def losses(self, output, x_0, t, noise):
        """Per-item losses (B,): ``mse``, ``vlb`` in bits per dimension, and their sum ``loss``.

        The bound teaches the variance alone: its mean carries no gradient (improved DDPM, 3.1).
        """
        x_t = self.q_sample(x_0, t, noise)
        prediction, v = self._split(output, x_t)
        mse = _mean((self.target(x_0, t, noise) - prediction) ** 2)
        if v is None or self.vlb_weight == 0:
            return {"mse": mse, "vlb": torch.zeros_like(mse), "loss": self._weight(t, mse) * mse}
        frozen = torch.cat([prediction.detach(), output[:, prediction.shape[1] :]], dim=1)
        vlb = self._bound(frozen, x_0, x_t, t)
        return {"mse": mse, "vlb": vlb, "loss": self._weight(t, mse) * mse + self.vlb_weight * vlb}

    def _weight(self, t, like):
        if not self.v_weight_limit:
            return torch.ones_like(like)
        return (1 / (1 - self._at("alphas_bar", t, like))).clamp(max=self.v_weight_limit)

    def _bound(self, output, x_0, x_t, t):
        model = self.posterior(output, x_t, t, clip=False)
        mean = self._at("posterior_x_0", t, x_t) * x_0 + self._at("posterior_x_t", t, x_t) * x_t
        log_variance = self._at("posterior_log_variance", t, x_t)
        kl = _gaussian_kl(mean, log_variance, model.mean, model.log_variance)
        nll = -_discretised_log_likelihood(x_0, model.mean, 0.5 * model.log_variance)
        return torch.where(t == 0, _mean(nll), _mean(kl)) / math.log(2)

    def _log_variance(self, v, x_t, t):
        if v is None:
            return self._at("posterior_log_variance", t, x_t).expand_as(x_t)
        low = self._at("posterior_log_variance", t, x_t)
        high = self._at("log_beta", t, x_t)
        fraction = (v + 1) / 2  # Eq. 15: log-space interpolation
        return fraction * high + (1 - fraction) * low

    def _split(self, output, x_t):
        channels = x_t.shape[1]
        if output.shape[1] == channels:
            return output, None
        return output[:, :channels], output[:, channels:]

    def _signal_and_sigma(self, t, like):
        return self._at("signal", t, like), self._at("sigma", t, like)

    def _at(self, name, t, like):
        return self._table(like.device)[name][t].view(-1, *[1] * (like.dim() - 1))

    def _table(self, device):
        """The coefficients on a device, copied there once: a copy a step would halt the device."""
        if device not in self._tables:
            columns = {
                "alphas_bar": self.alphas_bar,
                "signal": self.alphas_bar.sqrt(),
                "sigma": (1 - self.alphas_bar).sqrt(),
                "posterior_x_0": self.posterior_x_0,
                "posterior_x_t": self.posterior_x_t,
                "posterior_log_variance": self.posterior_log_variance,
                "log_beta": self.betas.log(),
            }
            with torch.inference_mode(False):  # training may share what sampling made
                self._tables[device] = {k: v.float().to(device) for k, v in columns.items()}
        return self._tables[device]


def cosine_betas(n_steps):
    """The cosine schedule (improved DDPM, Eq. 17), beta at most 0.999."""

    def alpha_bar(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [alpha_bar((i + 1) / n_steps) / alpha_bar(i / n_steps) for i in range(n_steps)]
    return torch.tensor([min(1 - ratio, 0.999) for ratio in ratios], dtype=torch.float64)


def linear_betas(n_steps):
    """The linear schedule of DDPM, 1e-4 to 0.02 at 1000 steps."""
    scale = 1000 / n_steps
    return torch.linspace(scale * 1e-4, scale * 0.02, n_steps, dtype=torch.float64)


def _mean(x):
    return x.flatten(1).mean(dim=1)


def _gaussian_kl(mean_1, log_variance_1, mean_2, log_variance_2):
    return 0.5 * (
        log_variance_2
        - log_variance_1
        - 1
        + torch.exp(log_variance_1 - log_variance_2)
        + (mean_1 - mean_2) ** 2 * torch.exp(-log_variance_2)
    )


def _discretised_log_likelihood(x, mean, log_scale):
    """Log probability of 8-bit grey values (in [-1, 1]) under a Gaussian, bin by bin."""
    half_bin = 1 / 255
    inverse = torch.exp(-log_scale)
    upper = _normal_cdf((x - mean + half_bin) * inverse)
    lower = _normal_cdf((x - mean - half_bin) * inverse)
    probability = torch.where(x > 0.999, 1 - lower, torch.where(x < -0.999, upper, upper - lower))
    return probability.clamp(min=1e-12).log()


def _normal_cdf(x):
    # The tanh form, which the released losses were computed with.
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
