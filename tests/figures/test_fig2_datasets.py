import pandas as pd
import pytest

from echo_lib.figures import fig2_datasets


@pytest.fixture
def papers(make_frames):
    """Frames and maps as the paper counts them."""
    frames = make_frames(400, 50, 50)
    return frames, pd.concat([frames[frames["split"] != "test"]] * 5, ignore_index=True)


def test_the_papers_counts_emerge(papers, images, label_maps, index, texts):
    figure = fig2_datasets.draw(
        *papers, images, label_maps, index, source="CAMUS", stamp_text="profile demo"
    )
    shown = texts(figure)
    for text in (
        "CAMUS\n\n400 + 50\npatients",
        "Test split\n50 patients\nheld out",
        "2CH ED\n400 + 50\nframes",
        "4CH ES\n2000 + 250\nmaps",
        "4CH ED\n2000 + 250\nimages",
        "trained on the 400 4CH ED training frames",
        "All\nframes\n\n8000\n+ 1000\nimages",
    ):
        assert text in shown
    assert shown.count("× 5") == 4
    assert [text.get_text() for text in figure.texts] == ["profile demo"]


def test_no_box_for_a_test_split_that_stays_closed(make_frames, images, label_maps, index, texts):
    frames = make_frames(3, 1)
    figure = fig2_datasets.draw(
        frames, frames, images, label_maps, index, source="Phantoms", stamp_text=""
    )
    assert not [text for text in texts(figure) if "held out" in text]


def test_counts_are_of_one_view_and_phase(papers):
    assert fig2_datasets.counts(papers[0], "2CH", "ES") == (400, 50)
    assert fig2_datasets.counts(papers[1]) == (8000, 1000)


def test_an_index_without_training_rows_is_refused(make_frames):
    with pytest.raises(ValueError, match="no training rows for 2CH ED"):
        fig2_datasets.counts(make_frames(0, 2), "2CH", "ED")
