"""Ultrasound image formation for the phantom: speckle in beam space, then scan conversion.

Tissue is a map of mean echo levels in dB. On a polar grid (depth x angle) it scales circular
complex Gaussian scatterers, the standard model of fully developed speckle (R. F. Wagner et al.,
IEEE Trans. Sonics Ultrason. 30(3), 1983); a separable point-spread function, short along the beam
and wide across it, blurs them; the envelope is log compressed and resampled to pixels.
"""

import numpy as np
from scipy import ndimage

N_DEPTHS = 448
N_BEAMS = 176
LATERAL = (2.2, 1.4, 1.7)  # standard deviations of the beam, in beams: top, focus, bottom


def beam_grid(depth_mm, half_angle):
    """Depth in mm (N_DEPTHS, 1) and angle in degrees (1, N_BEAMS) of the samples of beam space."""
    depth = np.linspace(0.0, depth_mm, N_DEPTHS)[:, None]
    return depth, np.linspace(-half_angle, half_angle, N_BEAMS)[None, :]


def to_beams(image, x_mm, z_mm, depth_mm, half_angle, *, aberration_mm=None):
    """Sample a Cartesian map on the beam grid.

    Args:
        image: (H, W) float.
        x_mm: (H, W) lateral position of its pixels, from the sector's centre line.
        z_mm: (H, W) depth of its pixels, from the sector's apex.
        depth_mm: of the sector.
        half_angle: of the sector, degrees.
        aberration_mm: where each echo really comes from, as an offset in depth and sideways,
            (2, N_DEPTHS, N_BEAMS); None for none.

    Returns:
        (N_DEPTHS, N_BEAMS) float.
    """
    depth, angle = beam_grid(depth_mm, half_angle)
    step = z_mm[1, 0] - z_mm[0, 0]
    rows = (depth * np.cos(np.radians(angle)) - z_mm[0, 0]) / step
    columns = (depth * np.sin(np.radians(angle)) - x_mm[0, 0]) / step
    if aberration_mm is not None:
        rows, columns = rows + aberration_mm[0] / step, columns + aberration_mm[1] / step
    return ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")


def from_beams(beams, x_mm, z_mm, depth_mm, half_angle):
    """Scan conversion: sample beam space at the pixels; meaningless outside the sector."""
    depth = np.hypot(x_mm, z_mm) / depth_mm * (N_DEPTHS - 1)
    angle = np.degrees(np.arctan2(x_mm, np.maximum(z_mm, 1e-6)))
    column = (angle / half_angle + 1.0) / 2.0 * (N_BEAMS - 1)
    return ndimage.map_coordinates(beams, [depth, column], order=1, mode="nearest")


def blur(scatterers, *, axial, lateral):
    """Convolve with a point-spread function that widens with depth.

    Args:
        scatterers: (N_DEPTHS, N_BEAMS) complex.
        axial: standard deviation along the beam, in samples.
        lateral: three standard deviations across it, in beams, at the top, middle and bottom.

    Returns:
        (N_DEPTHS, N_BEAMS) complex, of unit mean power where ``scatterers`` has it.
    """
    short = _filter(scatterers, axial, axis=0)
    wide = np.stack([_filter(short, width, axis=1) for width in lateral])
    place = np.linspace(0.0, 1.0, len(scatterers))
    centres = np.linspace(0.0, 1.0, len(lateral))
    weights = np.maximum(1.0 - np.abs(place[None, :] - centres[:, None]) * (len(lateral) - 1), 0.0)
    # The widths blur the same scatterers, so their images are correlated; this keeps unit power.
    one, two = np.meshgrid(lateral, lateral)
    correlation = np.sqrt(2.0 * one * two / (one**2 + two**2))
    weights /= np.sqrt(np.einsum("in,ij,jn->n", weights, correlation, weights))
    return (wide * weights[:, :, None]).sum(axis=0)


def _filter(values, sigma, *, axis):
    """Gaussian filter of a complex array, scaled so that white noise keeps its power."""
    real, imaginary = (
        ndimage.gaussian_filter1d(part, sigma, axis=axis) for part in (values.real, values.imag)
    )
    return (real + 1j * imaginary) * np.sqrt(2.0 * sigma * np.sqrt(np.pi))


def smooth_field(rng, *, depth_scale, beam_scale):
    """A smooth random field over beam space, zero mean and unit variance, (N_DEPTHS, N_BEAMS).

    ``depth_scale`` and ``beam_scale`` are correlation lengths in samples; the field is drawn coarse
    and spread with Gaussian weights, which costs less than filtering it at full size.
    """
    rows = max(round(N_DEPTHS / depth_scale), 2) + 3
    columns = max(round(N_BEAMS / beam_scale), 2) + 3
    coarse = rng.normal(size=(rows, columns))
    # einsum, not @: a BLAS may sum in another order with another number of threads.
    tall = np.einsum("ij,jk->ik", _bumps(rows, N_DEPTHS), coarse)
    field = np.einsum("ik,lk->il", tall, _bumps(columns, N_BEAMS))
    return (field - field.mean()) / field.std()


def _bumps(n_coarse, n_fine):
    """Gaussian weights (n_fine, n_coarse) that spread coarse values over fine places."""
    place = np.linspace(1.0, n_coarse - 2.0, n_fine)[:, None] - np.arange(n_coarse)[None, :]
    return np.exp(-0.5 * (place / 0.6) ** 2)


def speckle_image(level_db, rng, *, axial=1.0, lateral=LATERAL, looks=3, floor_db=-26.0):
    """Log-compressed speckle of a map of mean echo levels.

    Args:
        level_db: (N_DEPTHS, N_BEAMS) mean echo level in dB.
        rng: NumPy generator of the frame.
        axial: see ``blur``.
        lateral: see ``blur``.
        looks: independent images averaged in power (compounding), which calms the speckle.
        floor_db: electronic noise, in dB, which grows with depth as the gain does.

    Returns:
        (N_DEPTHS, N_BEAMS) float, dB.
    """
    amplitude = (10.0 ** (level_db / 20.0)).astype(np.float32)
    power = np.zeros_like(amplitude)
    for _ in range(looks):
        white = rng.standard_normal((2, *level_db.shape), dtype=np.float32) / np.float32(2.0**0.5)
        echo = blur(amplitude * (white[0] + 1j * white[1]), axial=axial, lateral=lateral)
        power += np.abs(echo) ** 2 / looks
    grown = floor_db + 8.0 * np.linspace(0.0, 1.0, len(level_db))[:, None] ** 2
    power = power + 10.0 ** (grown / 10.0) * rng.exponential(size=level_db.shape)
    return 10.0 * np.log10(power + 1e-9)
