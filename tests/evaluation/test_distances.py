import numpy as np
import pytest
import torch
from monai.metrics import SSIMMetric

from echo_lib.evaluation import distances


@pytest.fixture
def random():
    return np.random.default_rng(0)


def with_moments(mean, covariance, count, random):
    """(count, D) numbers whose sample mean and covariance are exactly these."""
    raw = random.normal(size=(count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(np.asarray(covariance, dtype=float)).T + mean


def test_frechet_distance_of_two_gaussians_in_closed_form(random):
    # Diagonal covariances: |m_a - m_b|^2 + sum of (s_a - s_b)^2 = 9 + 16 + (1 - 3)^2 + (2 - 2)^2.
    a = with_moments([0, 0], np.diag([1, 4]), 40, random)
    b = with_moments([3, 4], np.diag([9, 4]), 30, random)
    assert distances.frechet_distance(a, b) == pytest.approx(29)


def test_frechet_distance_of_covariances_that_do_not_commute(random):
    # For 2 x 2 the root of M has the trace sqrt(tr M + 2 sqrt(det M)). A = [[2, 1], [1, 2]] and
    # B = diag(1, 4): tr AB = 10, det AB = 12; the distance is 4 + 5 - 2 sqrt(10 + 2 sqrt 12).
    a = with_moments([0, 0], [[2, 1], [1, 2]], 20, random)
    b = with_moments([0, 0], np.diag([1, 4]), 20, random)
    expected = 9 - 2 * np.sqrt(10 + 2 * np.sqrt(12))
    assert distances.frechet_distance(a, b) == pytest.approx(expected)
    assert distances.frechet_distance(b, a) == pytest.approx(expected)


def test_identical_sets_are_at_0_even_with_more_dimensions_than_images(random):
    features = random.normal(size=(5, 40)).astype(np.float32)
    assert distances.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_small_sets_is_biased_upwards(random):
    halves = random.normal(size=(2, 200, 20))
    few = distances.frechet_distance(halves[0, :10], halves[1, :10])
    assert few > 5 * distances.frechet_distance(halves[0], halves[1]) > 0


def test_kernel_distance_by_hand():
    # D = 1, kernel x y + 1: within a 0 * 2 + 1 = 1, within b 4 * 6 + 1 = 25, between the mean of
    # 1, 1, 9, 13 = 6: 1 + 25 - 2 * 6 = 14. A linear kernel gives the means' distance squared, less
    # the variances' share: (1 - 5)^2 - 2/2 - 2/2 = 14.
    a, b = np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])
    assert distances.kernel_distance(a, b, degree=1) == pytest.approx(14)
    # Cubed: 1 + 15625 - 2 * (1 + 1 + 729 + 2197) / 4.
    assert distances.kernel_distance(a, b) == pytest.approx(14162)


def test_kernel_distance_is_unbiased(random):
    values = [
        distances.kernel_distance(*random.normal(size=(2, 8, 4)), degree=3) for _ in range(400)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_features_that_do_not_fit_are_refused(random):
    features = random.normal(size=(4, 3))
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        distances.frechet_distance(features, features[:, :2])
    with pytest.raises(ValueError, match="N two or more"):
        distances.kernel_distance(features, features[:1])
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="not all numbers are finite"):
        distances.frechet_distance(features, features)


def test_standardised_features_are_in_units_of_the_reference():
    # Reference columns: mean 2, std sqrt 2; constant; mean 0, std 2.
    by = np.array([[1.0, 7.0, -np.sqrt(2)], [3.0, 7.0, np.sqrt(2)]])
    found = distances.standardise(np.array([[4.0, 9.0, 2.0], [2.0, 7.0, -4.0]]), by=by)
    np.testing.assert_allclose(found, [[np.sqrt(2), 1], [0, -2]])


def test_sets_are_compared_at_one_size_in_units_of_the_reference(random):
    reference = random.normal(size=(50, 3))
    sets = {"same": reference, "far": (reference + 5)[:20]}
    table = distances.compare_sets(sets, reference=reference)
    assert tuple(table.columns) == distances.SET_COLUMNS
    assert table["n_images"].tolist() == [20, 20]
    assert table["n_reference"].tolist() == [50, 50]
    # Units of the reference: its own scale makes no difference.
    scale = np.array([1.0, 10.0, 100.0])
    again = distances.compare_sets(
        {name: own * scale for name, own in sets.items()}, reference=reference * scale
    )
    np.testing.assert_allclose(again["frechet"], table["frechet"])
    np.testing.assert_allclose(again["kernel"], table["kernel"])
    # "far" is "same", its first 20, moved by 5: the distance of the means alone grows.
    std = reference.std(axis=0, ddof=1)
    near = (reference[:20].mean(axis=0) - reference.mean(axis=0)) / std
    grown = ((near + 5 / std) ** 2 - near**2).sum()
    assert table["frechet"][1] - table["frechet"][0] == pytest.approx(grown)


def test_ssim_of_flat_images_by_hand():
    # Without structure: (2 a b + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2 = 6.5025.
    a, b = np.full((1, 16, 16), 100, np.uint8), np.full((1, 16, 16), 150, np.uint8)
    assert distances.ssim(a, b) == pytest.approx([(30000 + 6.5025) / (32500 + 6.5025)])
    np.testing.assert_allclose(distances.ssim(a, a), [1])


def test_ssim_of_an_inverted_checkerboard_by_hand():
    # Equal means, variance 50^2, covariance -50^2: (C2 - 2 v) / (C2 + 2 v), C2 = (0.03 * 255)^2.
    board = np.indices((24, 24)).sum(axis=0) % 2 * 100 + 50
    pair = board.astype(np.uint8)[None], (200 - board).astype(np.uint8)[None]
    c2 = 58.5225
    assert distances.ssim(*pair) == pytest.approx([(c2 - 5000) / (c2 + 5000)], abs=1e-4)


def test_ssim_is_that_of_monai(random):
    a = random.integers(0, 256, (3, 20, 24)).astype(np.uint8)
    b = np.clip(a + random.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    reference = SSIMMetric(spatial_dims=2, data_range=255.0, win_size=11, kernel_sigma=1.5)
    tensors = (torch.from_numpy(x[:, None].astype(np.float32)) for x in (a, b))
    expected = reference(*tensors).flatten().numpy()
    np.testing.assert_allclose(distances.ssim(a, b), expected, atol=2e-4)


def test_ssim_refuses_images_that_are_no_pairs():
    image = np.zeros((1, 16, 16), np.uint8)
    with pytest.raises(ValueError, match="sides >= 11"):
        distances.ssim(image[:, :10], image[:, :10])
    with pytest.raises(ValueError, match="expected uint8"):
        distances.ssim(image, image.astype(np.float32))


def test_features_of_another_program_are_numbers_only(tmp_path):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "features.npy", features)
    np.testing.assert_array_equal(distances.load_features(tmp_path / "features.npy"), features)
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", features)
    for name, reason in (
        ("code.npy", "expected a .npy file"),
        ("archive.npz", "an archive"),
        ("none.npy", "No such file"),
    ):
        with pytest.raises(ValueError, match=reason):
            distances.load_features(tmp_path / name)


def test_sets_of_another_program_lie_in_one_folder(tmp_path, random):
    features = {name: random.normal(size=(4, 2)) for name in ("sdm", "cyclegan", "reference")}
    for name, own in features.items():
        np.save(tmp_path / f"{name}.npy", own)
    sets, reference = distances.load_sets(tmp_path, ["sdm", "cyclegan"])
    assert list(sets) == ["sdm", "cyclegan"]
    np.testing.assert_array_equal(sets["cyclegan"], features["cyclegan"])
    np.testing.assert_array_equal(reference, features["reference"])
    with pytest.raises(ValueError, match=r"real\.npy"):
        distances.load_sets(tmp_path, ["real"])
