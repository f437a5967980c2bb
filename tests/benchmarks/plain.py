"""What a user writes: the plain models on batches of images, eager, nothing set. A process of its own, for settings of
the C library that a run makes hold until a process ends.

Prints the seconds for one image of each model, as JSON; medians over passes.
"""

import json
import statistics
import sys
import time

import timm
import torch


def main() -> None:
    """`plain.py BATCH PASSES ARCH...`."""
    batch, passes, archs = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    found = {}
    for arch in archs:
        model = timm.create_model(arch).eval()
        images = torch.randn(batch, 3, 224, 224)
        seconds = []
        with torch.inference_mode():
            for number in range(passes + 1):
                begun = time.perf_counter()
                model(images)
                if number:
                    seconds.append((time.perf_counter() - begun) / batch)
        found[arch] = statistics.median(seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
