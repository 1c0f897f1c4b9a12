"""slicer.app, dialogs, packages, translations and layout."""

import os
import shutil
import subprocess

import pytest
import qt
import slicer


def test_application(host):
    assert slicer.app.applicationName == "Slicer"
    assert slicer.app.applicationVersion == "5.13.0"
    assert os.path.isdir(slicer.app.temporaryPath)
    settings = slicer.app.settings()
    settings.setValue("Example/Keep", True)
    assert slicer.util.settingsValue("Example/Keep", False, converter=slicer.util.toBool)
    assert qt.QSettings().fileName().startswith(slicer.app.temporaryPath)
    assert slicer.util.mainWindow() is None
    assert slicer.util.tempDirectory().startswith(slicer.app.temporaryPath)
    assert "PATH" in slicer.util.startupEnvironment()


def test_messages_are_recorded_and_answered(host):
    assert slicer.util.confirmOkCancelDisplay("Install?")
    host.dialogs.answer("confirmYesNo", False)
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    slicer.util.errorDisplay("Broken", detailedText="why")
    slicer.util.delayDisplay("Wait", 5000)
    assert [item.kind for item in host.dialogs.shown] == ["confirmOkCancel", "confirmYesNo", "error", "delay"]
    assert host.dialogs.shown[2].detail == "why"


def test_try_with_error_display(host):
    with pytest.raises(ValueError, match="oops"), slicer.util.tryWithErrorDisplay("Failed."):
        raise ValueError("oops")
    assert host.dialogs.texts("error") == ["Failed.\n\noops"]


def test_dialogs_without_answer_fail_instead_of_blocking(host):
    with pytest.raises(AssertionError, match="would block"):
        qt.QFileDialog.getOpenFileName(None, "Choose a model")
    host.dialogs.answer("QMessageBox", qt.QMessageBox.Cancel)
    box = qt.QMessageBox()
    box.text = "Really?"
    assert box.exec_() == qt.QMessageBox.Cancel
    assert host.dialogs.texts("QMessageBox") == ["Really?"]


def test_unused_answers_are_a_problem(troubled):
    troubled.dialogs.answer("getText", "x")
    assert troubled.problems() == ["dialog answer never asked for: getText"]


def test_packages_are_recorded(host, tmp_path):
    from slicer import packaging

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# ours\nnumpy>=2  # arrays\n\nscipy\n")
    packaging.pip_ensure(packaging.load_requirements(requirements), requester="Example")
    slicer.util.pip_install("torch")
    assert host.packages.installed == ["numpy>=2", "scipy", "torch"]
    host.packages.failure = RuntimeError("no network")
    with pytest.raises(RuntimeError):
        slicer.util.pip_install("x")


def test_translations(host):
    from slicer.i18n import tr, translate

    assert tr("Apply") == translate("Example", "Apply") == "Apply"


def test_python_slicer(host):
    path = shutil.which("PythonSlicer")
    assert subprocess.check_output([path, "-c", "print(6 * 7)"], text=True).strip() == "42"


def test_layout(host, ball):
    manager = slicer.app.layoutManager()
    slicer.util.setSliceViewerLayers(background=ball[0], fit=True)
    assert host.layerCalls == [{"background": ball[0], "fit": True}]
    assert manager.sliceViewNames() == ["Red", "Yellow", "Green"]
    assert manager.sliceWidget("Red").mrmlSliceCompositeNode().GetBackgroundVolumeID() == ball[0].GetID()
    slicer.util.resetSliceViews()
    manager.threeDWidget(0).threeDView().resetFocalPoint()
    assert manager.resets == ["slices"]
