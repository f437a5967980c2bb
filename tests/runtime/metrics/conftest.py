"""One thread and no deadlines, for the tests of metrics."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("metrics", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("metrics")
