"""Does an SDM denoise frames that it has not seen as well as those that it was trained on?

    python -m echo_lib.sdm.generalisation --profile demo
    python -m echo_lib.sdm.generalisation --profile reduced-cpu --data-root /path/to/CAMUS \\
        --weights "weights/camus_{view}.safetensors" --output held_out.csv

The average loss of a training falls as long as it goes on, also where the network only learns its
few hundred frames by heart. The error on the frames of other patients says when it begins to.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from echo_lib import distributed
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.data.datasets import load_pairs, one_hot, read_index, to_unit
from echo_lib.labels import PHASES, VIEWS
from echo_lib.provenance import sha256_file, write_text
from echo_lib.sdm.denoiser import load_denoiser
from echo_lib.seeding import torch_generator

FRAMES = 50  # of a view, phase and split, evenly from the list of names
LEVELS = 5  # noise steps a frame, in the middle of equal parts of [0, T)
BATCH = 16  # no error depends on it
COLUMNS = ("view", "phase", "split", "n", "mse", "weights_sha256")


@torch.inference_mode()
def errors(run, view, path):
    """Error of x_0 of an SDM on prepared frames, by phase and split.

    Args:
        run: ``provenance.Run`` with stage "prepared".
        view: "2CH" or "4CH".
        path: of the weights.

    Returns:
        A data frame with COLUMNS, a line for the training split and one for the evaluation split in
        each phase that has frames: ``mse`` is the mean of (x_0 predicted - x_0)^2 over pixels,
        frames and LEVELS, grey values in [-1, 1].
    """
    denoiser, sha256 = load_denoiser(path, device=distributed.device()), sha256_file(path)
    index = read_index(run.folder, "real")
    lines = []
    for phase in PHASES:
        for split in ("training", run.profile.data.evaluation_split):
            chosen = (index.view == view) & (index.phase == phase) & (index.split == split)
            frames = index[chosen].sort_values("name")
            if frames.empty:
                continue
            frames = frames.iloc[:: -(-len(frames) // FRAMES)]
            found = {"view": view, "phase": phase, "split": split, "n": len(frames)}
            found |= {"mse": _error(denoiser, run, frames), "weights_sha256": sha256}
            lines.append(found)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _error(denoiser, run, frames):
    pairs, process, total = load_pairs(run.folder, frames), denoiser.process, 0.0
    steps = [process.n_steps * (2 * level + 1) // (2 * LEVELS) for level in range(LEVELS)]
    channels = denoiser.model.config.image_channels
    for batch in torch.arange(len(pairs)).split(BATCH):
        x_0 = to_unit(pairs.images[batch]).repeat(1, channels, 1, 1).to(denoiser.device)
        label_maps = pairs.label_maps[batch].long().to(denoiser.device)
        onehot = one_hot(label_maps, denoiser.model.config.classes)
        for step in steps:
            keys = [(run.seed, pairs.names[i], step) for i in batch]
            noise = [
                torch.randn(x_0.shape[1:], generator=torch_generator("held out", *key))
                for key in keys
            ]
            t = torch.full((len(batch),), step, device=denoiser.device)
            x_t = process.q_sample(x_0, t, torch.stack(noise).to(denoiser.device))
            output = denoiser.model(x_t, t, onehot)[:, :channels]
            square = (process.predict_x_0(output, x_t, t).clamp(-1, 1) - x_0) ** 2
            total += square.flatten(1).mean(dim=1).sum().item() / LEVELS
    return total / len(pairs)


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--weights", help="others than the run's; {view} stands for the view")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    options = parser.parse_args(arguments)
    run = run_from(options)
    pattern = options.weights or str(run.folder / "sdm/{view}/weights.safetensors")
    table = pd.concat([errors(run, v, Path(pattern.format(view=v))) for v in VIEWS])
    print(table.to_string(index=False))
    if options.output:
        write_text(options.output, table.to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    main()
