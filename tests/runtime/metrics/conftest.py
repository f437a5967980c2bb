"""One thread, no deadlines, and `harness` importable, for the tests of metrics."""

import sys
from pathlib import Path

import torch
from hypothesis import settings

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("metrics", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("metrics")
