import matplotlib.text
import numpy as np
import pytest
from matplotlib.colors import same_color

from echo_lib.figures import fig5_comparison
from echo_lib.figures.fig5_comparison import FOLLOWED, MISSED
from echo_lib.labels import SDM_LA


@pytest.fixture
def gaps(label_map):
    """(3, 32, 32): 0 px on the contour of the atrium (the fixture's rows 18 to 25), NaN off it."""
    gaps = np.full((3, 32, 32), np.nan)
    edge = label_map == SDM_LA
    edge[19:25, 11:21] = False
    gaps[2][edge] = 0
    return gaps


@pytest.fixture
def draw(label_map, images, gaps):
    """One column; the CycleGAN misses the atrium's lowest row by 5 px, the SDM by ``sdm_px``."""

    def draw(sdm_px, places=(("LA", 25, 15, 5.0),)):
        missed = {"SDM": gaps.copy(), "CycleGAN": gaps.copy()}
        missed["SDM"][2, 25, 10:22] = sdm_px
        missed["CycleGAN"][2, 25, 10:22] = 5
        return fig5_comparison.draw(
            ["mild"], label_map[None], {"SDM": images[:1], "CycleGAN": images[1:2]},
            {name: own[None] for name, own in missed.items()},
            threshold_px=3, places=list(places), scores={"SDM": [0.9], "CycleGAN": [0.456]},
            stamp_text="profile x",
        )  # fmt: skip

    return draw


def panels(figure):
    """Image and overlay of the SDM, then of the CycleGAN."""
    return [axes for axes in figure.axes if axes.images]


def dashes(axes):
    return [(line.get_color(), line.get_xydata()) for line in axes.lines]


def arrows(axes):
    return [t for t in axes.texts if isinstance(t, matplotlib.text.Annotation)]


def test_red_where_the_map_is_missed_and_green_where_it_is_followed_there(draw):
    image, overlay, other_image, other_overlay = panels(draw(sdm_px=1))
    assert dashes(image) == dashes(other_image) == []
    for axes, expected in ((overlay, FOLLOWED), (other_overlay, MISSED)):
        [(colour, points)] = dashes(axes)
        assert colour == expected
        points = points[~np.isnan(points).any(axis=1)]
        # The atrium's lowest row is row 25, columns 10 to 21: its outline runs half a px below.
        assert points[:, 1].max() == 25.5
        assert points[:, 1].min() >= 24.5
        assert (points[:, 0].min(), points[:, 0].max()) == (9.5, 21.5)


def test_a_generator_that_misses_too_is_red_whichever_it_is(draw):
    for axes in panels(draw(sdm_px=4))[1::2]:
        assert [colour for colour, _ in dashes(axes)] == [MISSED]


def test_the_arrow_points_to_the_place_in_the_colour_of_the_generator(draw):
    _, overlay, _, other_overlay = panels(draw(sdm_px=1))
    for axes, colour in ((overlay, FOLLOWED), (other_overlay, MISSED)):
        [arrow] = arrows(axes)
        assert arrow.xy == (15, 25)
        assert same_color(arrow.arrow_patch.get_edgecolor(), colour)
        assert 0 < arrow.xyann[1] < 25  # from the side of the centre
    for place in (None, ("LA", 18, 15, 0.0)):  # none, and one that no generator misses
        assert all(not arrows(axes) for axes in panels(draw(sdm_px=1, places=[place])))


def test_scores_titles_and_legend_are_written(draw, texts):
    found = texts(draw(sdm_px=1))
    assert {"mild", "SDM", "CycleGAN", "Dice 90 %", "Dice 46 %", "profile x"} <= set(found)
    assert "map missed by more than 3.0 px" in found


def test_stretches_too_short_for_a_dash_are_left_out(label_map, images, gaps):
    missed = gaps.copy()
    missed[2, 25, 14:16] = 9
    figure = fig5_comparison.draw(
        ["mild"], label_map[None], {"SDM": images[:1]}, {"SDM": missed[None]},
        threshold_px=3, places=[None], scores={"SDM": [1]}, stamp_text="",
    )  # fmt: skip
    assert dashes(panels(figure)[1]) == []
