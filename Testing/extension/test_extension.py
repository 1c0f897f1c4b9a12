"""The extension as Slicer's build sees it: its lists are complete, and the installed tree runs by itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "slicer_standin"


def listed(cmake_file: Path, variable: str) -> set[str]:
    """The words of ``set(VARIABLE ...)`` in a CMake file."""
    return set(re.search(rf"set\({variable}\s([^)]*)\)", cmake_file.read_text()).group(1).split())


def test_every_script_is_listed():
    folder = ROOT / "LCKDSegment"
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
    assert listed(folder / "CMakeLists.txt", "MODULE_PYTHON_SCRIPTS") == there


def test_every_resource_is_listed():
    folder = ROOT / "Resources"
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    records = ("/evaluation/", "/training/")  # of the model, for readers of the repository
    there = {name for name in there if name != "CMakeLists.txt" and not any(part in name for part in records)}
    assert listed(folder / "CMakeLists.txt", "MODULE_RESOURCES") == there


def extension_settings() -> dict[str, str]:
    text = (ROOT / "CMakeLists.txt").read_text()
    return dict(re.findall(r'set\(EXTENSION_(\w+) "?([^")]*)"?\)', text))


def test_descriptions_agree():
    cmake = extension_settings()
    catalogue = json.loads((ROOT / "LCKDSegment.json").read_text())
    lines = [line for line in (ROOT / "LCKDSegment.s4ext").read_text().splitlines() if not line.startswith("#")]
    legacy = dict(line.split(" ", 1) for line in lines)
    assert catalogue["build_dependencies"] == [cmake["DEPENDS"]] == [legacy["depends"]]
    assert catalogue["category"] == legacy["category"]
    assert catalogue["scm_url"] == legacy["scmurl"]
    assert catalogue["build_subdirectory"] == legacy["build_subdirectory"]
    for ours, theirs in {"HOMEPAGE": "homepage", "CONTRIBUTORS": "contributors", "DESCRIPTION": "description",
                         "ICONURL": "iconurl", "SCREENSHOTURLS": "screenshoturls"}.items():  # fmt: skip
        assert cmake[ours] == legacy[theirs]
    assert "project(LCKDSegment)" in (ROOT / "CMakeLists.txt").read_text()
    for url in (cmake["ICONURL"], cmake["SCREENSHOTURLS"]):
        assert (ROOT / url.split("/main/")[1]).is_file(), url


def test_packages_agree():
    """What Slicer installs is what the Python distribution asks for: same lower bounds, no pins."""
    project = (ROOT / "pyproject.toml").read_text()
    lines = (ROOT / "Resources" / "requirements.txt").read_text().splitlines()
    torch = re.search(
        r'TORCH = "(.*)"', (ROOT / "LCKDSegment" / "LCKDSegmentLib" / "dependencies.py").read_text()
    ).group(1)
    for requirement in [torch, *(line for line in lines if line and not line.startswith("#"))]:
        assert f'"{requirement}"' in project
        assert ">=" in requirement and "==" not in requirement


def test_terminology_file_is_the_table():
    from lckd.anatomy import CATEGORY, STRUCTURES, TERMINOLOGY

    context = json.loads((ROOT / "Resources" / "Terminology" / "LCKDSegment.term.json").read_text())
    assert context["SegmentationCategoryTypeContextName"] == TERMINOLOGY
    (category,) = context["SegmentationCodes"]["Category"]
    assert category["CodeValue"] == CATEGORY.value
    types = [(t["CodingSchemeDesignator"], t["CodeValue"], t["CodeMeaning"], tuple(t["recommendedDisplayRGBValue"]))
             for t in category["Type"]]  # fmt: skip
    assert types == [(s.type.scheme, s.type.value, s.type.meaning, s.colour) for s in STRUCTURES.values()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of scripted modules after a real configure, build and install."""
    if not shutil.which("cmake") or not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("cmake and a C compiler are needed to build the extension: apt-get install cmake g++")
    tmp = tmp_path_factory.mktemp("extension")
    for command in (
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            tmp / "build",
            f"-DSlicer_DIR={STANDIN}",
            f"-DCMAKE_INSTALL_PREFIX={tmp / 'install'}",
        ],
        ["cmake", "--build", tmp / "build"],
        ["cmake", "--install", tmp / "build"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = subprocess.run(["ctest", "-N"], cwd=tmp / "build", capture_output=True, text=True, check=True).stdout
    assert "py_LCKDSegment" in tests
    return tmp / "install" / "lib" / "Slicer-5.13" / "qt-scripted-modules"


def test_training_and_resources_are_installed(installed):
    assert (installed / "Training" / "lckd_training" / "training.py").is_file()
    assert (installed / "Training" / "README.md").is_file()
    assert (installed / "Resources" / "Models" / "compact" / "model.safetensors").is_file()


def test_installed_module_segments(installed, phantom, tmp_path):
    """The installed tree alone, in a host process that cannot see the source tree, segments a study."""
    pytest.importorskip("slicer", reason="slicer-core is needed to run the installed module")
    site = tmp_path / "standalone"
    shutil.copytree(ROOT / "Testing" / "host", site / "host", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
import sys
sources = {[str(ROOT / "LCKDSegment"), str(ROOT / "Training")]!r}
sys.path = [p for p in sys.path if p not in sources]
sys.path.insert(0, {str(site)!r})
from host import boot
host = boot()
import slicer
module, widget = host.loadModule({str(installed / "LCKDSegment.py")!r})
import lckd, LCKDSegmentLib
assert lckd.__file__.startswith({str(installed)!r}), lckd.__file__
slicer.util.loadVolume({str(phantom / f"{phantom.name}_flair.nii.gz")!r})
node = widget.logic.segment({{"FLAIR": slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")}}, "cpu")
print(node.GetSegmentation().GetNumberOfSegments(), host.problems(widget.parent))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("3 []")
