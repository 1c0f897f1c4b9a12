"""What may be imported by whom, how fast, and that ``pip install .`` gives a working command."""

import ast
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "lckd": {"slicer", "qt", "ctk", "vtk", "lckd_training", "LCKDSegmentLib"},
    "lckd_training": {"slicer", "qt", "vtk"},
}
FOLDERS = {"lckd": ROOT / "LCKDSegment" / "lckd", "lckd_training": ROOT / "Training" / "lckd_training"}
IN_SLICER = {"SimpleITK", "numpy", "vtk", "slicer", "qt", "lckd", "LCKDSegmentLib"}


def imported(path: Path, everywhere: bool) -> set[str]:
    """Top-level names that a file imports: everywhere, or at file scope only."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_layers(package):
    for path in FOLDERS[package].rglob("*.py"):
        assert not imported(path, everywhere=True) & FORBIDDEN[package], path


def test_slicer_side_needs_nothing_that_slicer_lacks_to_load():
    files = [ROOT / "LCKDSegment" / "LCKDSegment.py", *(ROOT / "LCKDSegment" / "LCKDSegmentLib").glob("*.py")]
    for path in files:
        assert imported(path, everywhere=False) <= IN_SLICER | set(sys.stdlib_module_names), path


def test_qt_only_in_the_widget_parts():
    for path in (ROOT / "LCKDSegment" / "LCKDSegmentLib").glob("*.py"):
        assert ("qt" in imported(path, everywhere=True)) == (path.name == "panel.py"), path


def test_importing_what_the_panel_needs_loads_no_torch():
    code = (
        "import sys, lckd, lckd.detection, lckd.studies, lckd.report, lckd.cli;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'monai', 'slicer', 'qt', 'lckd_training'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_installed_wheel_works(tmp_path):
    """``pip install .`` into an environment without the source tree: the command runs and finds its model."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    target = ["--target", str(site), "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *target, *tmp_path.glob("*.whl")], check=True)
    # torch and the like come from this environment: to download them again would test pip, not us.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "zz_dependencies.pth").write_text("\n".join(here))
    command = [
        python,
        "-I",
        "-c",
        "import lckd, sys; from lckd.cli import main; print(lckd.__file__); sys.exit(main(sys.argv[1:]))",
    ]
    done = subprocess.run([*command, "model", "verify"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout and "weights match" in done.stdout
    done = subprocess.run(
        [*command, "train", "nowhere.yaml", "--data", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no such recipe" in done.stderr
