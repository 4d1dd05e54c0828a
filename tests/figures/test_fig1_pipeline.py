import numpy as np
import pytest

from echo_lib.figures import fig1_pipeline


@pytest.fixture
def pictures(images, label_map):
    noisy = tuple(np.full((32, 32), value) for value in (0.0, 0.1, -0.1, 0.2))
    return {
        "label_map": label_map,
        "noisy": noisy,
        "steps": (0, 9, 19, 29),
        "augmented_maps": (label_map, label_map),
        "synthetic": tuple(images[:2]),
        "real_image": images[3],
        "real_labels": label_map,
    }


def test_the_chain_runs_from_noise_to_image(pictures, texts):
    figure = fig1_pipeline.draw(fig1_pipeline.Pipeline(**pictures), stamp_text="profile x")
    chain = [text for text in texts(figure) if text.startswith("$y_")]
    assert chain[:4] == ["$y_T$  noise, $t=29$", "$y_t$,  $t=19$", "$y_t$,  $t=9$", "$y_0$  image"]
    assert [text.get_text() for text in figure.texts] == ["profile x"]


def test_without_a_prediction_the_figure_claims_none(pictures, texts):
    shown = texts(fig1_pipeline.draw(fig1_pipeline.Pipeline(**pictures), stamp_text=""))
    assert "reference, for Dice" in shown
    assert "predicted labels" not in shown
    pictures["prediction"] = pictures["label_map"]
    shown = texts(fig1_pipeline.draw(fig1_pipeline.Pipeline(**pictures), stamp_text=""))
    assert "predicted labels" in shown


def test_noisy_frames_and_steps_must_match(pictures):
    pictures["steps"] = (0, 9)
    with pytest.raises(ValueError, match="4 noisy frames for 2 steps"):
        fig1_pipeline.draw(fig1_pipeline.Pipeline(**pictures), stamp_text="")
