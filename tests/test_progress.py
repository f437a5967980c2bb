"""Progress: the time that is left against the truth of a made-up clock, and how many lines a log gets."""

import sys

import pytest

from vitdsl.eta import Eta
from vitdsl.progress import StderrProgress


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run_of(steps: list[float]) -> list[tuple[float, float]]:
    """What is said to be left after each step of a stage, and what really was: seconds of each step given."""
    clock = Clock()
    eta, found = Eta(len(steps), clock), []
    assert eta.left() is None
    for index, took in enumerate(steps):
        clock.now += took
        eta.step(1)
        said = eta.left()
        assert said is not None
        found.append((said, sum(steps[index + 1 :])))
    return found


def test_an_even_stage_is_told_exactly() -> None:
    assert all(said == pytest.approx(truth) for said, truth in run_of([2.0] * 40))


def test_a_slow_first_step_misleads_for_one_step_only() -> None:
    first, *others = run_of([60.0] + [2.0] * 40)
    assert first[0] == pytest.approx(60 * 40)
    assert all(said == pytest.approx(truth) for said, truth in others)


def test_a_change_of_speed_is_believed() -> None:
    told = run_of([1.0] * 50 + [3.0] * 150)
    for done in range(110, 199):
        said, truth = told[done]
        assert abs(said - truth) <= 0.02 * truth + 1e-6, done


def test_many_steps_and_steps_of_many_images() -> None:
    told = run_of([0.01] * 5000)
    assert all(abs(said - truth) < 0.03 * truth + 0.02 for said, truth in told[1:])
    clock = Clock()
    eta = Eta(1000, clock)
    for count in (64, 64, 64, 8):
        clock.now += count / 16
        eta.step(count)
    assert eta.left() == pytest.approx(800 / 16)


def test_time_that_passes_between_steps_counts() -> None:
    clock = Clock()
    eta = Eta(10, clock)
    for _ in range(2):
        clock.now += 10
        eta.step(1)
    assert eta.left() == pytest.approx(80)
    clock.now += 7
    assert eta.left() == pytest.approx(73)
    clock.now += 1000
    assert eta.left() == 0


def test_a_log_of_a_day_has_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    clock = Clock()
    with StderrProgress(clock=clock) as progress:
        progress.begin("images of probe", 100_000)
        for _ in range(100_000):
            clock.now += 0.864
            progress.step()
        progress.end()
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 120
    assert lines[0].startswith("images of probe: 35/100000 images  about 24.0 h left")
    assert lines[-1] == "images of probe: 100000/100000 images"
    for line in lines[:-40]:
        done, said = int(line.split("/")[0].split()[-1]), float(line.split("about ")[1].split()[0])
        assert said == pytest.approx((100_000 - done) * 0.864 / 3600, abs=0.06)


def test_stages_nest(capsys: pytest.CaptureFixture[str]) -> None:
    with StderrProgress(clock=Clock()) as progress:
        progress.begin("models", 2, "models")
        progress.begin("train a", 1, "epochs")
        progress.step(1, "loss 1")
        progress.end()
        progress.step(1, "a")
        progress.step(1, "b")
        progress.end()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "train a: 1/1 epochs  loss 1"
    assert said[1].startswith("models: 1/2 models  a") and said[2] == "models: 2/2 models  b"
