"""Input pipeline: images a second from ArrayRecord through decoding and the ImageNet recipe, by workers.

python -m benchmarks.input_pipeline [--data_dir FOLDER] [--workers 0 1 2] [--batches 20] [--out FILE]
python -m benchmarks.input_pipeline --measured results/input_pipeline.json --out results/input_pipeline.json

Without ``--data_dir`` (an ImageNet that TFDS has prepared) it makes 400 JPEGs of 375 to 500 pixels a side, about
as large as ImageNet's, in a temporary folder; nothing of the network or the device is measured. With 0 workers one
thread reads and decodes, so its rate is that of one core; ``images_per_cpu_second`` says the same from its CPU
time. The parts' times are those of one core too.

Whether that feeds a training step is told by what benchmarks.scale measured (``--steps``): the images a second that
a step takes, and the cores that decode as many. ``--measured`` tells it anew of a file, without measuring again.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL

from benchmarks.scale import SIZES
from prune_jax import data
from prune_jax.data import images

ROOT = Path(__file__).parent.parent
FAKE = ROOT / "tests" / "fake_imagenet.py"
STEPS = [ROOT / "results" / name for name in ("scale.json", "scale_resnet50.json")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=Path, nargs="*", default=STEPS, help="files that scale.py wrote")
    parser.add_argument(
        "--measured", type=Path, help="a file that this wrote: compare it with steps, measure nothing"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    result = json.loads(asked.measured.read_text()) if asked.measured else measured(asked)
    result["feeds"] = feeds(result, {file.name: json.loads(file.read_text()) for file in asked.steps})
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


def measured(asked):
    """Rates and times of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        if not asked.data_dir:
            subprocess.run([sys.executable, FAKE, folder, "375", "500"], check=True)
        dataset = data.open_dataset(
            "imagenet2012", data_dir=asked.data_dir or folder, recipe=data.IMAGENET_RECIPE
        )
        return {
            "command": " ".join(["python -m benchmarks.input_pipeline", *sys.argv[1:]]),
            "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
            "versions": {"python": platform.python_version(), "pillow": PIL.__version__},
            "images": "generated" if not asked.data_dir else asked.data_dir,
            "mean_kilobytes": mean_kilobytes(dataset),
            "milliseconds": parts(dataset),
            "streams": [measure(dataset, workers, asked) for workers in asked.workers],
        }


def feeds(result, scales):
    """Lines: what each measured step of one replica at ImageNet's sizes takes, and the cores that decode as much.

    A core's rate is the lowest of those measured, at 224 px whatever the step's size. What ran on no GPU says
    nothing of one.
    """
    rate = min(stream["images_per_second"] / max(stream["workers"], 1) for stream in result["streams"])
    lines = [f"a core decodes and crops {rate:.0f} images/s"]
    steps = [
        (file, scale["precision"], *case.split(), best)
        for file, scale in scales.items()
        for case, best in scale["best"].items()
    ]
    # The peer and the masked step are no runs of ours, and CIFAR's images stay on the device.
    ours = [step for step in steps if step[3:5] == ("ours", "1") and SIZES[step[2]][0][0] == 224]
    for file, precision, network, _, _, best in ours:
        taken, size = best["batch"] / best["step_s"], SIZES[network][not best["gpu"]][0]
        where = "a GPU" if best["gpu"] else "a CPU"
        lines.append(
            f"{network} on {where}, {precision}, batch {best['batch']} at {size} px ({file}): takes {taken:.1f} "
            f"images/s, which {taken / rate:.2f} cores feed"
        )
    return lines if any(best["gpu"] for *_, best in ours) else [*lines, "on a GPU: not measured"]


def measure(dataset, workers, asked):
    """Median over rounds of the rate at which ``batches`` batches come, the first ones left out."""
    rates, spent = [], []
    for _ in range(asked.rounds):
        stream = data.open_stream(
            dataset, batch_size=asked.batch, seed=0, train=True, recipe=data.IMAGENET_RECIPE, workers=workers
        )
        for _ in range(2 + 3 * workers):  # what was read ahead before the clock started
            next(stream)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(asked.batches):
            next(stream)
        rates.append(asked.batch * asked.batches / (time.perf_counter() - began))
        spent.append(asked.batch * asked.batches / (time.process_time() - cpu))
        stream.close()
    rounded = {"workers": workers, "images_per_second": round(statistics.median(rates), 1)}
    if workers == 0:
        rounded["images_per_cpu_second"] = round(statistics.median(spent), 1)
    return rounded


def mean_kilobytes(dataset):
    """Mean size of an encoded training image."""
    return round(statistics.mean(len(example["image"]) for example in sample(dataset)) / 1000, 1)


def parts(dataset):
    """Mean milliseconds of decoding, of the training crop and of the evaluation crop, one image at a time."""
    encoded = [bytes(example["image"]) for example in sample(dataset)]
    rng, recipe = np.random.default_rng(0), data.IMAGENET_RECIPE
    pictures = [images.decode(content, 3) for content in encoded]

    def each(function, items):
        began = time.perf_counter()
        for item in items:
            function(item)
        return round(1000 * (time.perf_counter() - began) / len(items), 3)

    return {
        "decode": each(lambda content: images.decode(content, 3), encoded),
        "train_crop": each(lambda picture: images.train_image(picture, recipe, rng), pictures),
        "eval_crop": each(lambda picture: images.eval_image(picture, recipe), pictures),
    }


def sample(dataset):
    return dataset.train.source.__getitems__(list(range(min(200, dataset.train_size))))


if __name__ == "__main__":
    main()
