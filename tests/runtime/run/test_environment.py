"""The machine: devices, and what is recorded of it."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.run.environment import available, device, environment_facts


def test_the_best_device_is_taken() -> None:
    assert device() == device("auto") == torch.device(available()[0])
    assert device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:1", "mps:7", "", "tpu"])
def test_a_missing_device_is_refused(name: str) -> None:
    with pytest.raises(EnvironmentProblem, match="VD408") as caught:
        device(name)
    assert "cpu" in caught.value.diagnostics[0].help[0]


def test_the_description_is_ready_for_json(tmp_path: Path) -> None:
    said = environment_facts(tmp_path)
    assert json.loads(json.dumps(said)) == said
    assert said["packages"]["torch"] and said["packages"]["timm"] and said["git"] is None


def test_the_commit_and_whether_it_is_all(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "study.yaml").write_text("vitdsl: 1\n")
    git("add", ".")
    git("commit", "-m", "x")
    found = environment_facts(tmp_path)["git"]
    assert len(found["commit"]) == 40 and found["dirty"] is False
    (tmp_path / "notes.txt").write_text("of no study")
    assert environment_facts(tmp_path)["git"]["dirty"] is False
    (tmp_path / "study.yaml").write_text("vitdsl: 2\n")
    assert environment_facts(tmp_path)["git"]["dirty"] is True
