"""A browser of images with their label maps, by view, phase, split or score (ipywidgets)."""

import io
from pathlib import Path

import ipywidgets
import numpy as np
from PIL import Image, ImageDraw

from echo_lib.labels import SDM_COLOURS, SDM_LA, SDM_LV, SDM_MYOCARDIUM

ALL = "all"
SHOWN = ("image", "overlay", "label map")
ORDERS = ("as listed", "lowest score first", "highest score first")
_COLUMNS, _ROWS, _SIDE, _CAPTION = 6, 2, 144, 14  # tiles of a page, their px, px of a caption
_TINT = 0.45
_PALETTE = np.array(
    [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in SDM_COLOURS], dtype=np.float64
)


class Explorer(ipywidgets.VBox):
    """Pages of images, chosen by drop-downs and ordered by a score.

    Args:
        folder: what the paths of ``index`` are relative to; ``Run.folder``.
        index: data frame with columns name, image and label_map (paths, unless arrays are given),
            and those below.
        filters: columns that get a drop-down.
        score: column of numbers that orders and cuts off; None for none.
        images, label_maps: (N, H, W) uint8 and SDM ids, one a line of ``index``, in the place of
            the files it names.
    """

    def __init__(
        self, folder, index, *, filters=("view", "phase"), score=None, images=None, label_maps=None
    ):
        if len(index) == 0:
            raise ValueError("empty index: nothing to explore; check what was selected")
        files = [k for k, a in (("image", images), ("label_map", label_maps)) if a is None]
        missing = {"name", *files, *filters} - set(index)
        if missing:
            raise ValueError(f"index without {sorted(missing)}; found {', '.join(index)}")
        self._folder, self._index = Path(folder), index.reset_index(drop=True)
        self._score, self._arrays = score, {"image": images, "label_map": label_maps}
        self.filters = {name: _dropdown(name, self._index[name]) for name in filters}
        self.order = ipywidgets.Dropdown(options=ORDERS, description="order")
        low, high = (index[score].min(), index[score].max()) if score else (0.0, 1.0)
        self.least = ipywidgets.FloatSlider(
            low, min=low, max=max(high, low), step=max((high - low) / 100, 1e-6),
            description=f"{score} ≥" if score else "", continuous_update=False,
        )  # fmt: skip
        self.show = ipywidgets.ToggleButtons(options=SHOWN, value="overlay")
        self.page = ipywidgets.IntSlider(1, min=1, max=1, description="page")
        self.count = ipywidgets.Label()
        self.picture = ipywidgets.Image(format="png")
        controls = [*self.filters.values(), *([self.order, self.least] if score else [])]
        for control in (*controls, self.show):
            control.observe(lambda change: self._select(), names="value")
        self.page.observe(lambda change: self._draw(), names="value")
        super().__init__(
            [ipywidgets.HBox(controls), ipywidgets.HBox([self.show, self.page, self.count]),
             self.picture]
        )  # fmt: skip
        self._select()

    @property
    def selected(self):
        """The lines of the index that the controls leave, in the order shown."""
        chosen = self._index
        for name, control in self.filters.items():
            if control.value != ALL:
                chosen = chosen[chosen[name].astype(str) == control.value]
        if self._score:
            chosen = chosen[chosen[self._score] >= self.least.value]
            if self.order.value != ORDERS[0]:
                chosen = chosen.sort_values(
                    self._score, ascending=self.order.value == ORDERS[1], kind="stable"
                )
        return chosen

    def _select(self):
        pages = max(1, -(-len(self.selected) // (_COLUMNS * _ROWS)))
        self.page.value, self.page.max = min(self.page.value, pages), pages
        self.count.value = f"{len(self.selected)} of {len(self._index)}"
        self._draw()

    def _draw(self):
        first = (self.page.value - 1) * _COLUMNS * _ROWS
        lines = self.selected.iloc[first : first + _COLUMNS * _ROWS]
        sheet = Image.new("RGB", (_COLUMNS * _SIDE, _ROWS * (_SIDE + _CAPTION)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, (number, line) in enumerate(lines.iterrows()):
            x = place % _COLUMNS * _SIDE
            y = place // _COLUMNS * (_SIDE + _CAPTION)
            sheet.paste(self._tile(number, line), (x, y + _CAPTION))
            score = f" {line[self._score]:.2f}" if self._score else ""
            pen.text((x + 2, y + 1), f"{line['name']}{score}"[:26], fill="black")
        file = io.BytesIO()
        sheet.save(file, format="PNG")
        self.picture.value = file.getvalue()

    def _tile(self, number, line):
        image, label_map = (
            _read(self._folder / line[kind]) if array is None else np.asarray(array[number])
            for kind, array in self._arrays.items()
        )
        picture = compose(image, label_map, self.show.value)
        return Image.fromarray(picture).resize((_SIDE - 2, _SIDE - 2), Image.Resampling.BILINEAR)


def compose(image, label_map, shown):
    """An image, its label map, or the heart's colours over the image, as (H, W, 3) uint8.

    Args:
        image: (H, W) uint8.
        label_map: (H, W) SDM ids.
        shown: one of SHOWN.
    """
    if shown not in SHOWN:
        raise ValueError(f"{shown!r}, expected one of {SHOWN}")
    colours = _PALETTE[label_map]
    if shown == "label map":
        return colours.astype(np.uint8)
    grey = np.repeat(image[..., None].astype(np.float64), 3, axis=-1)
    heart = np.isin(label_map, (SDM_LV, SDM_MYOCARDIUM, SDM_LA))[..., None]
    weight = _TINT * heart * (shown == "overlay")
    return ((1 - weight) * grey + weight * colours).astype(np.uint8)


def _dropdown(name, column):
    values = [ALL, *sorted({str(value) for value in column})]
    return ipywidgets.Dropdown(options=values, description=name)


def _read(path):
    with Image.open(path) as file:
        return np.array(file)
