"""How far a set of images lies from another: SSIM of pairs, Frechet and kernel distance of sets.

The distances of sets compare features, (N, D) numbers per image. Ours are those of a segmentation
network trained on real frames (``segmentation.prediction.features``); ``load_features`` reads
others that were computed elsewhere, those of an Inception network for instance. Distances from
different features do not compare.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.ndimage

SET_COLUMNS = ("generator", "n_images", "n_reference", "frechet", "kernel")
_WINDOW_STD_PX, _WINDOW_RADIUS_PX = 1.5, 5  # 11 x 11 px
_K1, _K2 = 0.01, 0.03


def frechet_distance(features_a, features_b):
    """Squared Frechet distance of two Gaussians with the features' means and covariances.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the formula behind the FID (arXiv 1706.08500,
    eq. 6). The estimate is biased upwards, the more so the smaller the sets: with fewer images than
    dimensions the covariances are singular, which is handled, but then even two halves of one set
    lie far apart. Compare it with that of two real sets of the same sizes.

    Args:
        features_a, features_b: (N, D) and (M, D) floats, N and M two or more.
    """
    a, b = _pair(features_a, features_b)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # (C_a C_b)^(1/2) has the trace of the symmetric (C_a^(1/2) C_b C_a^(1/2))^(1/2): no complex
    # numbers where a covariance is singular.
    root = _matrix_root(covariance_a)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    distance = shift + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(max(distance, 0.0))  # rounding alone makes it negative


def kernel_distance(features_a, features_b, *, degree=3):
    """Unbiased squared MMD under the kernel (x y / D + 1)^degree (arXiv 1801.01401, section 4).

    Its expectation is 0 for sets of one distribution at any size, so an estimate may be negative.

    Args:
        features_a, features_b: (N, D) and (M, D) floats, N and M two or more.
        degree: of the polynomial.
    """
    a, b = _pair(features_a, features_b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** degree

    within = sum(_mean_off_diagonal(kernel(x, x)) for x in (a, b))
    return float(within - 2 * kernel(a, b).mean())


def standardise(features, *, by):
    """Features in units of a reference set, so that no dimension outweighs the others.

    Args:
        features: (N, D) floats.
        by: (M, D) floats, the reference: its mean becomes 0 and its sample std 1 in each dimension.
            A dimension in which it does not vary is left out.

    Returns:
        (N, D') float64, D' the dimensions kept.
    """
    features, by = _pair(features, by)
    std = by.std(axis=0, ddof=1)
    kept = std > 0
    return (features[:, kept] - by[:, kept].mean(axis=0)) / std[kept]


def compare_sets(features, *, reference):
    """Frechet and kernel distance of sets to a reference, in units of the reference.

    The Frechet distance is biased by the size of the sets, so all are cut to that of the smallest;
    the reference is used whole.

    Args:
        features: name of the set to its (N, D) features, in a random order.
        reference: (M, D) features.

    Returns:
        A data frame with SET_COLUMNS, a line per set.
    """
    count = min(len(own) for own in features.values())
    whole = standardise(reference, by=reference)
    lines = []
    for name, own in features.items():
        own = standardise(own[:count], by=reference)
        numbers = frechet_distance(own, whole), kernel_distance(own, whole)
        lines.append((name, count, len(whole), *numbers))
    return pd.DataFrame(lines, columns=list(SET_COLUMNS))


def ssim(images_a, images_b):
    """Structural similarity of pairs of images (Wang et al. 2004: Gaussian window, 11 x 11 px).

    Args:
        images_a, images_b: (N, H, W) uint8, H and W 11 or more.

    Returns:
        (N,) from -1 to 1: the mean over the pixels whose window lies inside the image.
    """
    a, b = np.asarray(images_a), np.asarray(images_b)
    if a.shape != b.shape or a.ndim != 3 or min(a.shape[1:]) <= 2 * _WINDOW_RADIUS_PX:
        raise ValueError(f"images of {a.shape} and {b.shape}, expected one (N, H, W), sides >= 11")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"images of {a.dtype} and {b.dtype}, expected uint8")
    pairs = zip(a.astype(np.float64), b.astype(np.float64), strict=True)
    return np.array([_ssim_of_pair(x, y) for x, y in pairs])


def load_features(path):
    """Features that another program has computed, an Inception network for instance.

    Only numbers are read from the file, never code.

    Args:
        path: .npy file of (N, D) floats, one line per image.

    Raises:
        ValueError: not such a file, or numbers that are not finite.
    """
    try:
        features = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: {error}; expected a .npy file of (N, D) floats") from error
    if not isinstance(features, np.ndarray):
        raise ValueError(f"{path}: an archive; expected a .npy file of one array (N, D)")
    return _matrix(features, path)


def load_sets(folder, names):
    """``load_features`` of ``<name>.npy`` for each of ``names``, and of ``reference.npy``.

    Returns:
        Name to features; and those of the reference, the real training frames.
    """
    sets = {name: load_features(Path(folder) / f"{name}.npy") for name in names}
    return sets, load_features(Path(folder) / "reference.npy")


def _pair(features_a, features_b):
    a, b = _matrix(features_a, "features_a"), _matrix(features_b, "features_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and {b.shape[1]} dimensions; expected as many")
    return a, b


def _matrix(features, where):
    features = np.asarray(features)
    if features.ndim != 2 or len(features) < 2 or features.dtype.kind != "f":
        raise ValueError(
            f"{where}: {features.dtype} of shape {features.shape}, expected floats (N, D), "
            "N two or more"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{where}: not all numbers are finite; leave those images out")
    return features.astype(np.float64)


def _matrix_root(symmetric):
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _mean_off_diagonal(matrix):
    count = len(matrix)
    return (matrix.sum() - np.trace(matrix)) / (count * (count - 1))


def _ssim_of_pair(a, b):
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a, variance_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    inside = slice(_WINDOW_RADIUS_PX, -_WINDOW_RADIUS_PX)
    return (luminance * structure)[inside, inside].mean()


def _smooth(array):
    return scipy.ndimage.gaussian_filter(array, _WINDOW_STD_PX, radius=_WINDOW_RADIUS_PX)
