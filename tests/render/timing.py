"""How long pictures take: ``python tests/render/timing.py`` prints medians in milliseconds.

No test: a figure on a busy machine proves nothing. The targets are 60 ms for a picture with
its five best classes, and 250 ms for a grid of 64 feature maps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

import tritonic_nb
from tritonic_nb import samples
from tritonic_nb.images import ImageTransform
from tritonic_nb.render import Picture, classification

ROUNDS = 25


def main() -> None:
    """Measure each picture as a notebook shows it: drawn, encoded, and its bundle made."""
    dice = np.random.default_rng(0)
    photo = Image.open(samples.image("cat")).convert("RGB").resize((224, 224))
    scores = dice.dirichlet(np.ones(1000) * 0.01)
    labels = samples.labels()
    maps = dice.normal(size=(1, 64, 56, 56)).astype(np.float32)
    transform = ImageTransform(224, 224)
    cases: dict[str, Callable[[], Picture]] = {
        "224 x 224 image and top 5": lambda: classification(photo, labels, scores),
        "the same with a class activation": lambda: classification(
            photo, labels, scores, heat=np.eye(7)
        ),
        "224 x 224 image": lambda: tritonic_nb.picture(np.asarray(photo)),
        "top 5 of 1000 logits": lambda: tritonic_nb.picture(
            np.log(scores + 1e-9)[None], name="logits", labels=labels
        ),
        "64 feature maps of 56 x 56": lambda: tritonic_nb.picture(maps, name="feature_maps"),
        "heat map of 224 x 224": lambda: tritonic_nb.picture(dice.normal(size=(224, 224))),
        "mask over a photograph": lambda: tritonic_nb.picture(
            dice.random((1, 56, 56)), as_="probability", source=photo, transform=transform
        ),
        "21 classes of 520 x 520": lambda: tritonic_nb.picture(
            np.broadcast_to(maps[0, :21, :1, :1], (1, 21, 520, 520)), name="out"
        ),
        "8400 candidates of YOLO": lambda: tritonic_nb.picture(
            np.abs(dice.random((1, 84, 8400))) * np.r_[[640] * 4, [0.3] * 80][:, None]
        ),
        "one second of sound": lambda: tritonic_nb.picture(
            np.sin(np.arange(16000) / 7), name="audio"
        ),
    }
    for name, make in cases.items():
        make()
        times, busy = [], []
        for _ in range(ROUNDS):
            began, working = time.perf_counter(), time.process_time()
            picture = make()
            picture._repr_mimebundle_()
            times.append((time.perf_counter() - began) * 1000)
            busy.append((time.process_time() - working) * 1000)
        spread = f"{min(times):.0f} to {max(times):.0f}; processor {statistics.median(busy):.0f}"
        size = len(picture._repr_mimebundle_()[0]["text/html"]) / 1000
        print(f"{statistics.median(times):7.1f} ms ({spread})  {size:5.0f} kB of HTML  {name}")


if __name__ == "__main__":
    main()
