"""The semantic diffusion model: network, mathematics, samplers, training, sampling."""
