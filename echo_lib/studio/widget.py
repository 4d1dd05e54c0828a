"""The label-map studio: change the anatomy by hand, see the echo (JupyterLab and Voila).

    studio = Studio(label_map, view="4CH")
    studio                    # drag points, paint, move sliders, press G

Everything that the mouse does is a method here, so that it can be scripted and tested: the browser
sends the same edits that a notebook would.
"""

import base64
import io
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from echo_lib.labels import SDM_COLOURS, SDM_NAMES, VIEWS
from echo_lib.provenance import atomic_path, sha256_file, write_json
from echo_lib.sdm.samplers import SAMPLERS
from echo_lib.sdm.sampling import shipped_weights
from echo_lib.studio import foreign
from echo_lib.studio.generation import Request, Settings, Worker
from echo_lib.studio.label_map import EDITS, Document, Edit
from echo_lib.studio.parameters import EditError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """An image that was made, and what made it.

    Attributes:
        number: counts from 1.
        image: (H, W) uint8.
        label_map: (H, W) uint8 SDM ids.
        settings: ``Settings``.
        record: JSON text of the document, map and edits.
        weights: the file of the SDM.
    """

    number: int
    image: np.ndarray
    label_map: np.ndarray
    settings: Settings
    record: str
    weights: Path

    def as_code(self):
        """A cell that makes this image without the widget."""
        return (
            "from echo_lib.studio.generation import Settings, generate\n"
            "from echo_lib.studio.label_map import Document\n\n"
            f"document = Document.from_json('''{self.record}''')\n"
            f"image = generate(document.current, {self.settings.as_code()})\n"
        )


class Studio(anywidget.AnyWidget):
    """A label map with its image under the hand.

    Args:
        label_maps: (H, W) SDM ids, or one such map for each of the views.
        view: the view to begin with.
        weights: safetensors of an SDM by view; left out, the shipped ones.
        folder: where ``save`` writes.
        **settings: of ``generation.Settings``.
    """

    _esm = FOLDER / "studio.js"
    _css = FOLDER / "studio.css"

    # The map and its image, row by row.
    shape = traitlets.List(traitlets.Int()).tag(sync=True)
    label_map = traitlets.CBytes(b"").tag(sync=True)
    image = traitlets.CBytes(b"").tag(sync=True)  # empty where none was made yet
    image_is_preview = traitlets.Bool(False).tag(sync=True)
    # What is fixed.
    names = traitlets.List(list(SDM_NAMES)).tag(sync=True)
    colours = traitlets.List(list(SDM_COLOURS)).tag(sync=True)
    menu = traitlets.List().tag(sync=True)
    views = traitlets.List(list(VIEWS)).tag(sync=True)
    samplers = traitlets.List(list(SAMPLERS)).tag(sync=True)
    # What the user sets.
    view = traitlets.Enum(VIEWS, "4CH").tag(sync=True)
    sampler = traitlets.Enum(tuple(SAMPLERS), "dpm_solver_pp").tag(sync=True)
    steps = traitlets.Int(15, min=2, max=1000).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    guidance = traitlets.Float(0.0, min=0.0, max=20.0).tag(sync=True)
    # What is told.
    history = traitlets.List().tag(sync=True)
    undone = traitlets.Int(0).tag(sync=True)
    findings = traitlets.List().tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    progress = traitlets.Float(0.0).tag(sync=True)
    filmstrip = traitlets.List().tag(sync=True)
    code = traitlets.Unicode("").tag(sync=True)
    dialog = traitlets.Dict().tag(sync=True)

    def __init__(self, label_maps, *, view="4CH", weights=None, folder="runs/studio", **settings):
        maps = label_maps if isinstance(label_maps, dict) else {view: label_maps}
        if view not in maps:
            raise ValueError(f"no label map of view {view!r}; found {sorted(maps)}")
        super().__init__(view=view, views=[v for v in VIEWS if v in maps], **settings)
        self.documents = {name: Document(label_map) for name, label_map in maps.items()}
        self.results, self.folder = [], Path(folder)
        self._weights, self._lock, self._foreign = dict(weights or {}), threading.Lock(), None
        self._worker = Worker(self._on_progress, self._on_image, self._on_error)
        self.menu = [_menu_entry(kind) for kind in EDITS.values() if kind.group != "brush"]
        self.on_msg(self._on_message)
        self.observe(lambda change: self._show(), names="view")
        self._show()

    @property
    def document(self):
        """The ``label_map.Document`` of the present view."""
        return self.documents[self.view]

    @property
    def settings(self):
        """The present ``Settings``."""
        return Settings(self.view, self.sampler, self.steps, self.guidance, self.seed)

    def edit(self, name, parameters=None, *, in_place_of_last=False):
        """Make an edit, or put it in the place of the last one."""
        change = self.document.replace if in_place_of_last else self.document.apply
        change(Edit(name, parameters or {}))
        self._show()

    def try_edit(self, name, parameters=None, *, in_place_of_last=False):
        """Show what an edit would give, and record nothing."""
        document, edit = self.document, Edit(name, parameters or {})
        if in_place_of_last and document.edits:
            document = Document(document.original, document.edits[:-1])
        self.label_map = document.preview(edit).tobytes()

    def undo(self):
        """Take the last edit back."""
        self.document.undo()
        self._show()

    def redo(self):
        """Make the edit again that was undone last."""
        self.document.redo()
        self._show()

    def generate(self, *, wait=False):
        """Ask for the image of the present map; an earlier request that is not done is given up.

        Args:
            wait: block until it is there.
        """
        settings = self.settings
        weights = Path(self._weights.get(self.view) or shipped_weights(self.view))
        self.busy, self.progress = True, 0.0
        self.message = f"{weights.name}, seed {settings.seed}"
        record = self.document.to_json()
        self._worker.request(Request(self.document.current.copy(), settings, record, weights))
        if wait:
            self._worker.wait()

    def cancel(self):
        """Give up the image under way."""
        self._worker.cancel()
        self.busy, self.progress, self.message = False, 0.0, "cancelled"

    def wait(self, timeout_s=None):
        """Block until no image is under way; True where that was so in time."""
        return self._worker.wait(timeout_s)

    def result(self, number=None):
        """The ``Result`` with this number; the last one where it is left out.

        Raises:
            ValueError: there is none.
        """
        for result in reversed(self.results):
            if number in (None, result.number):
                return result
        raise ValueError(f"no result {number or ''}: generate an image first")

    def save(self, number=None, *, folder=None):
        """Write a result as image, label map and record.

        Args:
            number: of the result; the last one where left out.
            folder: where; the studio's own where left out.

        Returns:
            The three paths: ``.png``, ``_label_map.png``, ``.json``.
        """
        result = self.result(number)
        stem = f"{result.settings.view}_{result.number:03d}_seed{result.settings.seed}"
        base = Path(folder or self.folder) / stem
        paths = [base.with_name(stem + end) for end in (".png", "_label_map.png", ".json")]
        for path, array in zip(paths[:2], (result.image, result.label_map), strict=True):
            with atomic_path(path) as temporary:
                Image.fromarray(array).save(temporary)
        record = {
            "settings": asdict(result.settings),
            "weights": {"file": result.weights.name, "sha256": sha256_file(result.weights)},
            "document": json.loads(result.record),
        }
        write_json(paths[2], record)
        self.message = f"saved {paths[0]}"
        return paths

    def load_map(self, content, name):
        """Read a user's own label map; ``use_map`` then says what its values mean."""
        self._foreign = foreign.read(content, name)
        values = np.unique(self._foreign).tolist()
        self.dialog = {
            "name": name,
            "values": values,
            "suggestion": {str(v): m for v, m in foreign.suggest(values).items()},
            "meanings": list(foreign.MEANINGS),
        }

    def use_map(self, meanings):
        """Take the map that was loaded in the place of the present one; its edits begin anew."""
        if self._foreign is None:
            raise foreign.ForeignMapError("no map was loaded; load one first")
        new = foreign.convert(self._foreign, meanings, like=self.document.original)
        self.documents[self.view] = Document(new)
        self._foreign, self.dialog = None, {}
        self._show()

    def _show(self):
        document = self.document
        self.shape = list(document.current.shape)
        self.label_map = document.current.tobytes()
        self.history = [edit.as_dict() | {"title": edit.kind.title} for edit in document.edits]
        self.undone = len(document.undone)
        self.findings = document.findings()

    def _on_message(self, _, content, buffers):
        """A message of the browser: an action's name and its arguments."""
        action = content.pop("action", None)
        try:
            if action == "load_map":
                self.load_map(bytes(buffers[0]), content["name"])
            elif action == "show_code":
                self.code = self.result(content["number"]).as_code()
            elif action in ACTIONS:
                getattr(self, action)(**content)
            else:
                raise ValueError(f"action {action!r}, expected one of {', '.join(ACTIONS)}")
        except (EditError, ValueError, OSError) as error:
            self.message = str(error)
            if action in ("edit", "try_edit"):
                self._show()

    # On the worker's thread.

    def _on_progress(self, request, done, total):
        self.progress = done / total

    def _on_image(self, request, image, preview):
        with self._lock:
            self.image, self.image_is_preview = image.tobytes(), preview
            if preview:
                return
            number = len(self.results) + 1
            result = Result(
                number, image, request.label_map, request.settings, request.record, request.weights
            )
            self.results.append(result)
            self.filmstrip = [*self.filmstrip, _thumbnail(result)]
            self.busy, self.progress = False, 1.0
            self.message = f"result {number}, {request.weights.name}, seed {request.settings.seed}"

    def _on_error(self, request, error):
        self.busy, self.message = False, f"no image: {error}"


ACTIONS = ("edit", "try_edit", "undo", "redo", "generate", "cancel", "save", "use_map")


def _menu_entry(kind):
    parameters = [
        {
            "name": p.name, "kind": p.kind, "default": p.default, "low": p.low, "high": p.high,
            "unit": p.unit, "choices": list(p.choices),
        }
        for p in kind.parameters
        if p.kind in ("number", "choice")
    ]  # fmt: skip
    return {
        "name": kind.name, "title": kind.title, "group": kind.group, "parameters": [
            {**p, "low": _finite(p["low"]), "high": _finite(p["high"])} for p in parameters
        ],
    }  # fmt: skip


def _finite(value):
    return value if np.isfinite(value) else None


def _thumbnail(result):
    return {
        "number": result.number,
        "image": _png(result.image),
        "label_map": _png(result.label_map),
        "caption": f"{result.number} · {result.settings.view} · seed {result.settings.seed} · "
        f"{result.settings.sampler} {result.settings.steps}",
    }


def _png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
