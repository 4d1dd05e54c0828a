"""How the work of a profile fills an hour of one GPU: counted work at assumed rates.

The GPU's operations, the tensor operations that Python starts one by one, the random numbers that
the CPU draws and the files are counted; what a machine does of each in a second is assumed.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch

from benchmarks.measure import count_flops, count_operations
from echo_lib.cyclegan.networks import Discriminator, Generator
from echo_lib.labels import PHASES, VIEWS
from echo_lib.rows import config_of, find_row, networks_of
from echo_lib.sdm.comparison import settings_of
from echo_lib.sdm.unet import SemanticUNet
from echo_lib.segmentation.augmentation import COLUMNS as TRANSFORM
from echo_lib.segmentation.augmentation import apply
from echo_lib.segmentation.losses import LOSSES
from echo_lib.segmentation.unet import build_unet
from echo_lib.segmentation.variants import epochs_of

PATIENTS = {"training": 400, "validation": 50}  # of CAMUS, split as in the paper [paper 2.1]
BATCH = 2  # of what is counted; one image alone takes some short cuts
JOBS = 4  # that share the GPU: make figures GPU_JOBS=4


@dataclass(frozen=True)
class Work:
    """What a stage does, counted.

    Attributes:
        stage, what: its name, and the work in words.
        processes: one after another, or so many at once.
        flops: on the GPU.
        operations: tensor operations started one by one.
        normals, items: random numbers drawn on the CPU; items that have a generator of their own.
        pairs, images: pairs read, images written.
        compilations, notebooks: so many.
        seconds: taken as they are.
    """

    stage: str
    what: str
    processes: int = 1
    flops: float = 0
    operations: int = 0
    normals: int = 0
    items: int = 0
    pairs: int = 0
    images: int = 0
    compilations: int = 0
    notebooks: int = 0
    seconds: float = 0.0


# Of ``Work``, what the CPU does, and the seconds that one of it takes.
_OF_THE_CPU = {
    "processes": "seconds_per_process",
    "operations": "seconds_per_operation",
    "items": "seconds_per_item",
    "pairs": "seconds_per_pair",
    "images": "seconds_per_image",
    "compilations": "seconds_per_compilation",
    "notebooks": "seconds_per_notebook",
}


def predict(work, assumed):
    """Seconds of a stage: of the GPU, of the CPU, alone, and with ``JOBS`` processes at once.

    GPU and CPU are taken to wait for each other, which they partly do not: an upper bound.

    Args:
        work: ``Work``.
        assumed: rates by name, ``benchmarks.recipe.ASSUMED``.
    """
    gpu = work.flops / (1e12 * assumed["peak_tflops_per_second"] * assumed["of_peak"])
    cpu = work.seconds + work.normals / assumed["normals_per_second"]
    cpu += sum(getattr(work, key) * assumed[rate] for key, rate in _OF_THE_CPU.items())
    shared = max(gpu, (gpu + cpu) / min(JOBS, max(1, work.processes)))
    return {"gpu_seconds": gpu, "cpu_seconds": cpu, "alone": gpu + cpu, "shared": shared}


@cache
def sdm_counts(network, size_px):
    """Of one image: ``parameters``, ``normals``, and of each call ``flops`` and ``started``.

    The calls are ``cached`` step, ``encode`` (the label map, once), ``uncached`` step, the two
    together, and ``training`` step. ``started`` are tensor operations started one by one, by a
    whole batch.
    """
    with torch.device("meta"):
        model = SemanticUNet(network)
        x = torch.empty(BATCH, network.image_channels, size_px, size_px)
        t = torch.zeros(BATCH, dtype=torch.int64)
        onehot = torch.empty(BATCH, network.classes, size_px, size_px)
    condition = model.encode_labels(onehot)
    calls = {
        "cached": torch.no_grad()(lambda: model(x, t, condition)),
        "encode": torch.no_grad()(lambda: model.encode_labels(onehot)),
        "training": lambda: model(x, t, onehot).sum().backward(),
    }
    flops, started = _counted(calls)
    flops["uncached"] = flops["cached"] + flops["encode"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    normals = network.image_channels * size_px**2
    return {"parameters": parameters, "flops": flops, "started": started, "normals": normals}


def _counted(calls):
    """Of each call with a batch: operations an image, and tensor operations started one by one."""
    # These first: gradients that are there already would be added to, one operation each.
    started = {name: count_operations(call) for name, call in calls.items()}
    return {name: count_flops(call) / BATCH for name, call in calls.items()}, started


def training_work(training, counts, *, views=2):
    """``Work`` of the SDMs' training, a process a view."""
    images = views * training.steps * training.batch_size
    passes = views * training.steps * -(-training.batch_size // training.micro_batch_size)
    return Work(
        "SDM training",
        f"{views} x {training.steps:,} steps of {training.batch_size}",
        processes=views,
        flops=images * counts["flops"]["training"],
        operations=passes * counts["started"]["training"],
        normals=images * counts["normals"],
        items=images,
        pairs=views * PATIENTS["training"],
        compilations=views,
    )


def sampling_work(profile, counts):
    """``Work`` of the synthetic data sets, a process a view."""
    config, images = profile.sdm.sampling, images_of(profile)
    batches = len(VIEWS) * -(-images // len(VIEWS) // config.batch_size)
    drawn = images * (config.steps + 1 if config.sampler == "ddpm" else 1)
    return Work(
        "sampling",
        f"{images:,} images, {config.sampler} in {config.steps} steps",
        processes=len(VIEWS),
        flops=images * (counts["flops"]["encode"] + config.steps * counts["flops"]["cached"]),
        operations=batches * config.steps * counts["started"]["cached"],
        normals=drawn * counts["normals"],
        pairs=images,
        images=images,
        compilations=len(VIEWS) * config.compile,
    )


def comparison_work(profile, counts):
    """``Work`` of the samplers' comparison, one process."""
    config, settings = profile.sdm.comparison, settings_of(profile.sdm.comparison)
    evaluations = sum(setting.steps for setting in settings)
    drawn = sum(s.steps + 1 if s.sampler == "ddpm" else 1 for s in settings)
    encoded = len(settings) * counts["flops"]["encode"]
    return Work(
        "samplers' comparison",
        f"{config.maps} maps, {evaluations:,} evaluations each",
        flops=config.maps * (encoded + evaluations * counts["flops"]["cached"]),
        operations=len(VIEWS) * evaluations * counts["started"]["cached"],
        normals=config.maps * drawn * counts["normals"],
        images=config.maps * len(settings),
        compilations=len(VIEWS) * profile.sdm.sampling.compile,
    )


def cyclegan_work(profile):
    """``Work`` of the CycleGAN's training and of its data set.

    A step sends six images through the generators in four calls, and six through the
    discriminators in four; each is counted with its whole backward pass.
    """
    config, size = profile.cyclegan, profile.data.image_size_px
    flops, started = _both_ways(config, size)
    frames = PATIENTS["training"] * len(VIEWS) * len(PHASES)
    per_epoch = config.images_per_epoch or max(frames, slices_of(config))
    steps = config.epochs * -(-per_epoch // config.batch_size)
    training = Work(
        "CycleGAN training",
        f"{config.epochs} x {per_epoch:,} images",
        flops=config.epochs * per_epoch * 6 * sum(flops.values()),
        operations=steps * 4 * sum(started.values()),
        items=2 * config.epochs * per_epoch,
        pairs=frames + slices_of(config),
    )
    images = images_of(profile)
    translation = Work(
        "CycleGAN's data set",
        f"{images:,} images",
        flops=images * flops["generator"] / 3,
        operations=images // 16 * started["generator"] // 3,
        pairs=images,
        images=images,
    )
    return [training, translation]


def slices_of(config):
    """How many slices are cut from the hearts."""
    return config.meshes.hearts * config.meshes.slices_per_view * len(VIEWS)


def _both_ways(config, size):
    with torch.device("meta"):
        image = torch.empty(BATCH, 1, size, size, requires_grad=True)
        networks = {
            "generator": Generator(config.width, config.residual_blocks),
            "discriminator": Discriminator(config.discriminator_width),
        }
    calls = {
        name: lambda n=network: n(image).sum().backward() for name, network in networks.items()
    }
    return _counted(calls)


def segmentation_work(profile):
    """``Work`` of the segmentation networks of Table 1 and of the extra rows, a process each."""
    config, size = profile.segmentation, profile.data.image_size_px
    flops, started = segmentation_counts(config, size)
    networks = networks_of(config)
    rows = [find_row(slug) for slug, _ in networks]
    pairs = [pairs_of(row, profile) for row in rows]
    images = [_seen(row, profile) for row in rows]
    return Work(
        "segmentation networks",
        f"{len(networks)} networks, {sum(images) / len(images) / config.batch_size:,.0f} steps of "
        f"{config.batch_size} in the mean",
        processes=len(networks),
        flops=sum(images) * flops,
        operations=sum(-(-n // config.batch_size) for n in images) * started,
        items=sum(images),
        pairs=sum(pairs),
    )


def segmentation_counts(config, size_px):
    """Operations of a training step per image; how many it starts, transforms included."""
    network = build_unet(config).to("meta")
    with torch.device("meta"):
        grey = torch.empty(BATCH, 1, size_px, size_px)
        target = torch.empty(BATCH, size_px, size_px, dtype=torch.int64)
        raw, drawn = grey.to(torch.uint8), torch.empty(BATCH, len(TRANSFORM))

    def step():
        apply(raw, target.to(torch.uint8), drawn)
        LOSSES[config.loss](network(grey), target).backward()

    flops, started = _counted({"step": step})
    return flops["step"], started["step"]


def _seen(row, profile):
    own = config_of(row, profile.segmentation)
    of_all_patients = pairs_of(replace(row, real_fraction=1.0), profile)
    return epochs_of(own) * (own.images_per_epoch or of_all_patients)


def pairs_of(row, profile):
    """The training pairs of a row, those that choose the epoch included."""
    frames = PATIENTS["training"] * len(row.views) * len(row.phases)
    maps = frames * (row.maps_per_frame or profile.augmentation.maps_per_frame)
    return sum(
        round(row.real_fraction * frames) if source == "real" else maps for source in row.sources
    )


def images_of(profile):
    """How many images the SDMs draw: one of every augmented label map."""
    frames = sum(PATIENTS.values()) * len(VIEWS) * len(PHASES)
    return frames * profile.augmentation.maps_per_frame


def works(profile, *, cpu_seconds):
    """All stages of a run.

    Args:
        profile: ``config.Profile``.
        cpu_seconds: stage to seconds, of the stages without a GPU.
    """
    counts = sdm_counts(profile.sdm.network, profile.data.image_size_px)
    prepared, pseudo = (cpu_seconds[stage] for stage in ("prepared", "pseudo"))
    return [
        Work("frames and label maps", "on the CPU", 0, seconds=prepared),
        training_work(profile.sdm.training, counts),
        sampling_work(profile, counts),
        comparison_work(profile, counts),
        Work("pseudo-images", "on the CPU, beside the SDMs", 0, seconds=pseudo),
        *cyclegan_work(profile),
        segmentation_work(profile),
        Work("notebooks", "those that take the GPU", notebooks=3),
    ]
