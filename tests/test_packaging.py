"""What is listed is what there is, and what there is ships: the wheel is built and used outside the checkout."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "vitdsl": "vitdsl",
    "dsl": "vitdsl.dsl",
    "runtime": "vitdsl.runtime",
    "reports": "vitdsl.reports",
    "specs": "vitdsl.specs",
}


def configured() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


def test_every_package_folder_is_listed() -> None:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).as_posix().replace("/", ".")
            found.add(package if inner == "." else f"{package}.{inner}")
    assert found == set(configured()["packages"])  # type: ignore[call-overload]


def test_every_module_is_in_a_package() -> None:
    for folder in ("vitdsl", *FOLDERS):
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module} is in no package"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    if not names:
        pytest.skip("not a git checkout")
    for name in names:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(source)]
    subprocess.run(command, check=True)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_everything(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in FOLDERS:
        prefix = "vitdsl" if folder == "vitdsl" else f"vitdsl/{folder}"
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".j2", ".css", ".js", ".json", ".safetensors", ".typed"):
                inside = f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}"
                assert inside in names, f"{inside} is not in the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    weights = [info for info in zipfile.ZipFile(wheel).infolist() if info.filename.endswith(".safetensors")]
    assert weights and all(info.file_size <= 1_000_000 for info in weights)


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path / 'site')!r}]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')"
        " and '__editable__' not in repr(f)]\n"
        "import vitdsl.dsl.load, importlib.resources\n"
        f"assert vitdsl.__file__.startswith({str(tmp_path)!r}), vitdsl.__file__\n"
        f"assert vitdsl.dsl.load.__file__.startswith({str(tmp_path)!r}), vitdsl.dsl.load.__file__\n"
        "from vitdsl.cli import run\n"
        "study = importlib.resources.files('vitdsl.specs') / 'skip_ablation.yaml'\n"
        "assert run(['check', str(study)]) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
