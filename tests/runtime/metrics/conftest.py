"""One thread and no deadlines, for the tests of metrics."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("metrics", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("metrics")


@pytest.fixture
def usual_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps lie as plain models have them, so that features are the same bits as those that a hook sees."""
    from vitdsl.runtime.run import layout

    monkeypatch.setattr(layout, "SHARE", 1.0)
