"""Input pipeline: images a second from ArrayRecord through decoding and the ImageNet recipe, by workers.

python -m benchmarks.input_pipeline [--data_dir FOLDER] [--workers 0 1 2] [--batches 20] [--out FILE]

Without ``--data_dir`` (an ImageNet that TFDS has prepared) it makes 400 JPEGs of 375 to 500 pixels a side, about
as large as ImageNet's, in a temporary folder; nothing of the network or the device is measured. With 0 workers one
thread reads and decodes, so its rate is that of one core; ``images_per_cpu_second`` says the same from its CPU
time. The parts' times are those of one core too.
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

from prune_jax import data
from prune_jax.data import images

FAKE = Path(__file__).parent.parent / "tests" / "fake_imagenet.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not asked.data_dir:
            subprocess.run([sys.executable, FAKE, folder, "375", "500"], check=True)
        dataset = data.open_dataset(
            "imagenet2012", data_dir=asked.data_dir or folder, recipe=data.IMAGENET_RECIPE
        )
        result = {
            "command": " ".join(["python -m benchmarks.input_pipeline", *sys.argv[1:]]),
            "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
            "versions": {"python": platform.python_version(), "pillow": PIL.__version__},
            "images": "generated" if not asked.data_dir else asked.data_dir,
            "mean_kilobytes": mean_kilobytes(dataset),
            "milliseconds": parts(dataset),
            "streams": [measure(dataset, workers, asked) for workers in asked.workers],
        }
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


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
