"""The same models, layers, images and batches in the packages that people use beside this one.

Run with a folder that holds `images.pt`, `vit.pt` and `res.pt`, in an environment that has the packages; see
`environment`. Prints for each the seconds of the comparison itself (imports and models apart) and what it gave.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

PACKAGES = ("pytorch-cka==1.1.3", "torch-cka==0.21", "ckatorch==1.0.3", "openerf==0.6.1")
BESIDE = ("seaborn", "pandas", "pytz", "tzdata", "tqdm")


def environment(folder: Path) -> dict[str, str]:
    """The environment variables under which the packages are found, installed into a folder if they are not there."""
    if not (folder / "cka").is_dir():
        words = ["install", "-q", "--no-deps", "--target", str(folder), *PACKAGES, *BESIDE]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return os.environ | {"PYTHONPATH": str(folder), "MPLBACKEND": "Agg"}


def main() -> None:
    """`peers.py FOLDER --batch N --vit ARCH --res ARCH`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--vit", required=True)
    parser.add_argument("--res", required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    images = torch.load(options.folder / "images.pt")
    models = {}
    for name in ("vit", "res"):
        models[name] = timm.create_model(getattr(options, name)).eval()
        models[name].load_state_dict(torch.load(options.folder / f"{name}.pt"))
    layers = {
        "vit": [f"blocks.{i}" for i in range(len(models["vit"].blocks))],
        "res": [
            f"layer{s}.{i}" for s in range(1, 5) for i in range(len(models["res"].get_submodule(f"layer{s}")))
        ],
    }
    loader = DataLoader(TensorDataset(images), options.batch)
    found = {}
    for package, work in (("pytorch-cka", pytorch_cka), ("torch-cka", torch_cka), ("ckatorch", ckatorch)):
        found[package] = one(lambda work=work: work(models, layers, loader))
    found["openerf"] = one(lambda: openerf(models["vit"], images))
    wide = DataLoader(TensorDataset(images.double()), options.batch)
    double = {name: model.double() for name, model in models.items()}
    found["pytorch-cka, models in float64"] = one(lambda: pytorch_cka(double, layers, wide))
    print(json.dumps(found))


def one(work: Callable[[], Any]) -> dict[str, Any]:
    """Seconds and result of a package, or what it says that it cannot."""
    begun = time.perf_counter()
    try:
        with torch.no_grad():
            result = work()
    except Exception as error:  # what a package raises is what is told of it
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "values": result.tolist()}


def pytorch_cka(models: dict[str, Any], layers: dict[str, list[str]], loader: Any) -> Any:
    """Minibatch CKA, HSIC summed over batches."""
    from cka import compute_cka

    (found,) = compute_cka(
        models["vit"], models["res"], loader, layers=layers["vit"], model2_layers=layers["res"], device="cpu",
        progress=False,
    )  # fmt: skip
    return found


def torch_cka(models: dict[str, Any], layers: dict[str, list[str]], loader: Any) -> Any:
    """Minibatch CKA."""
    from torch_cka import CKA

    found = CKA(
        models["vit"], models["res"], model1_name="vit", model2_name="res", model1_layers=layers["vit"],
        model2_layers=layers["res"], device="cpu",
    )  # fmt: skip
    found.compare(loader, loader)
    return found.export()["CKA"]


def ckatorch(models: dict[str, Any], layers: dict[str, list[str]], loader: Any) -> Any:
    """Minibatch CKA."""
    from ckatorch import CKA

    found = CKA(models["vit"], models["res"], layers["vit"], layers["res"], "vit", "res", device="cpu")
    return found(loader, epochs=1)


def openerf(model: Any, images: Any) -> Any:
    """Positive gradient of the last block's centre, image by image."""
    from openerf.erf import _compute_positive_input_gradients_from_layer as gradients

    target = model.blocks[-1]
    total = None
    with torch.enable_grad():
        for image in images:
            found = gradients(model, image[None].clone().requires_grad_(True), target, "blocks")
            total = found if total is None else total + found
    return total


if __name__ == "__main__":
    main()
