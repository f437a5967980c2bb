"""The speed of a made-up machine, so that no test has to measure the one that it runs on."""

from vitdsl.runtime.run.calibration import Calibration

SPEED = Calibration(
    made_at="2026-01-02T03:04:05+00:00",
    machine={},
    product=1e11,
    convolution=2e11,
    exact=5e10,
    plain=(1e11, 5e10),
    dear=(2e10, 1e10),
    call=4e-6,
    call_convolution=3e-5,
    decode=3e-3,
    python=1.6e-3,
)
