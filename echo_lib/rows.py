"""The rows of Table 1, and ours beside them: what each segmentation network is trained on."""

from dataclasses import dataclass, replace

from echo_lib.labels import PHASES, STRUCTURES, VIEWS

# Where training pairs come from, and the stage that makes them.
INPUT_STAGES = {"synthetic": "synthetic", "real": "prepared", "cyclegan": "translated"}
SOURCES = tuple(INPUT_STAGES)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        slug: its name in files and on the command line.
        name: its name in the paper, or ours.
        sources: where the training pairs come from, of SOURCES.
        view, phase: the frames it trains on; None takes all.
        paper: structure of Table 1, and "Mean", to (mean, std) Dice in %; empty where the paper
            has no such row.
        real_fraction: the part of the training patients whose real frames it sees.
        starts_from: slug of the row whose network it starts from; None starts from random weights.
        variant: "as_written" or "as_released"; None takes the profile's.
        longer: how many times the profile's epochs it trains, a fraction for fewer.
        maps_per_frame: of the synthetic pairs, those of so many maps of each frame; None takes all.
        fidelity_threshold: synthetic images that follow their map less (mean Dice, 0 to 1) are left
            out; None takes the profile's.
        clipped: its images are black outside the sector of their map.
    """

    slug: str
    name: str
    sources: tuple
    view: str | None
    phase: str | None
    paper: dict
    real_fraction: float = 1.0
    starts_from: str | None = None
    variant: str | None = None
    longer: float = 1
    maps_per_frame: int | None = None
    fidelity_threshold: float | None = None
    clipped: bool = False

    @property
    def in_paper(self):
        """True for a row of the paper's Table 1."""
        return bool(self.paper)

    @property
    def is_plain(self):
        """True where nothing but its pairs sets it apart: trained as the profile says, anew."""
        return self == Row(
            self.slug, self.name, self.sources, self.view, self.phase, self.paper,
            self.real_fraction,
        )  # fmt: skip

    @property
    def views(self):
        """The views it trains on."""
        return VIEWS if self.view is None else (self.view,)

    @property
    def phases(self):
        """The phases it trains on."""
        return PHASES if self.phase is None else (self.phase,)

    def select(self, frames):
        """The part of a data frame with columns ``view`` and ``phase`` that is the row's own."""
        return frames[frames["view"].isin(self.views) & frames["phase"].isin(self.phases)]


def _row(slug, name, source, view, phase, *numbers):
    paper = dict(zip((*STRUCTURES, "Mean"), numbers, strict=True))
    return Row(slug, name, (source,), view, phase, paper)


def _all(slug, name, source, **changes):
    """A row of all frames of a source that differs from the paper's in one thing."""
    return Row(slug, name, (source,), None, None, {}, **changes)


def _fractions(percent):
    fraction = percent / 100
    yield Row(
        f"real_{percent:02d}", f"Real, {percent} % of patients", ("real",), None, None, {}, fraction
    )
    yield Row(
        f"sdm_and_real_{percent:02d}",
        f"SDM + real, {percent} % of patients",
        ("synthetic", "real"),
        None,
        None,
        {},
        fraction,
    )


# Paper, Table 1. The ± of "Mean" is the population std of the three structure means.
PAPER_ROWS = (
    _row("sdm_4ch_ed", "SDM 4 Chamber ED", "synthetic", "4CH", "ED",
         (91.3, 4.4), (94.0, 3.2), (82.6, 16.9), (89.3, 4.9)),
    _row("sdm_4ch_es", "SDM 4 Chamber ES", "synthetic", "4CH", "ES",
         (87.8, 5.5), (92.7, 2.7), (88.0, 5.3), (89.5, 2.3)),
    _row("sdm_2ch_ed", "SDM 2 Chamber ED", "synthetic", "2CH", "ED",
         (88.0, 4.9), (89.3, 5.5), (77.5, 16.8), (85.0, 5.3)),
    _row("sdm_2ch_es", "SDM 2 Chamber ES", "synthetic", "2CH", "ES",
         (87.0, 5.7), (92.9, 2.4), (87.9, 7.3), (89.3, 2.6)),
    _row("sdm_all", "All SDM frames", "synthetic", None, None,
         (88.6, 5.8), (91.9, 4.2), (85.2, 13.2), (88.6, 2.7)),
    _row("cyclegan_all", "CycleGAN [6] all frames", "cyclegan", None, None,
         (79.4, 9.9), (88.6, 5.4), (71.3, 23.7), (79.7, 7.1)),
    _row("real_all", "All real CAMUS frames", "real", None, None,
         (87.8, 6.8), (90.9, 5.4), (82.6, 14.4), (87.1, 3.4)),
)  # fmt: skip

# Rows that the paper lacks; ``segmentation.extra_rows`` of a profile chooses among them.
EXTRA_ROWS = (
    Row("sdm_and_real", "SDM + real", ("synthetic", "real"), None, None, {}),
    Row("sdm_then_real", "SDM, then real", ("real",), None, None, {}, starts_from="sdm_all"),
    _all("sdm_all_as_released", "All SDM frames, as released", "synthetic", variant="as_released"),
    _all("real_all_as_released", "All real frames, as released", "real", variant="as_released"),
    _all("sdm_all_shorter", "All SDM frames, a fifth as long", "synthetic", longer=1 / 5),
    _all("sdm_all_longer", "All SDM frames, twice as long", "synthetic", longer=2),
    _all("real_all_longer", "All real frames, twice as long", "real", longer=2),
    _all("sdm_all_one_map", "All SDM frames, 1 map a frame", "synthetic", maps_per_frame=1),
    _all("sdm_all_faithful", "SDM frames that follow their map", "synthetic",
         fidelity_threshold=0.8),
    _all("sdm_all_clipped", "All SDM frames, black outside the sector", "synthetic", clipped=True),
    *(row for percent in (5, 10, 25, 50) for row in _fractions(percent)),
)  # fmt: skip
ROWS = PAPER_ROWS + EXTRA_ROWS


def rows_of(config):
    """The rows that a profile runs: those of Table 1, then its ``extra_rows``.

    Args:
        config: ``SegmentationConfig``.

    Raises:
        ValueError: an extra row that does not exist.
    """
    return PAPER_ROWS + tuple(find_row(slug) for slug in config.extra_rows)


def networks_of(config):
    """The networks that a profile trains: (slug of the row, seed of the table), row by row.

    Args:
        config: ``SegmentationConfig``.
    """
    return [(row.slug, seed) for row in rows_of(config) for seed in seeds_of(row, config)]


def config_of(row, config):
    """The ``SegmentationConfig`` that ``row`` is trained with: the profile's, with its own changes.

    Args:
        row: a ``Row``.
        config: the profile's ``SegmentationConfig``.
    """
    config = replace(config, epochs=max(1, round(row.longer * config.epochs)))
    if row.variant is not None:
        loss = "cross_entropy" if row.variant == "as_released" else config.loss
        config = replace(config, variant=row.variant, loss=loss)
    if row.fidelity_threshold is not None:
        config = replace(config, fidelity_threshold=row.fidelity_threshold)
    return config


def is_filtered(row, config):
    """True where ``row`` leaves out synthetic images by their fidelity: it must be known."""
    return "synthetic" in row.sources and config_of(row, config).fidelity_threshold > 0


def seeds_of(row, config):
    """The seeds of the table that ``row`` is trained with."""
    return config.table_seeds if row.in_paper else config.extra_seeds


def find_row(slug):
    """The row with this slug.

    Raises:
        ValueError: no such row.
    """
    for row in ROWS:
        if row.slug == slug:
            return row
    raise ValueError(f"row {slug!r} not found; expected one of {[row.slug for row in ROWS]}")


def stage_name(row, seed):
    """The stage that trains ``row`` (its slug) with the table's seed ``seed``."""
    return f"segmentation/{row}-{seed}"
