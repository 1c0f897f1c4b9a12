"""The PythonQt dialect: properties, enum values, names, and what PythonQt refuses."""

import pytest
import qt

from host import dialect


def test_properties_are_attributes(host):
    button = qt.QPushButton("Apply")
    button.checkable = True
    assert (button.text, button.checkable, button.enabled) == ("Apply", True, True)
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    combo = qt.QComboBox()
    combo.addItems(["a", "b"])
    combo.currentIndex = 1
    assert (combo.count, combo.currentText) == (2, "b")


def test_values_are_converted_or_refused(host):
    spin, label = qt.QSpinBox(), qt.QLabel()
    spin.value = 3.7
    label.visible = [1]
    assert spin.value == 3
    assert label.visible
    label.visible = False
    for name, value in (("width", 3), ("text", None)):
        with pytest.raises(AttributeError):
            setattr(label, name, value)


def test_static_function_and_property_of_one_name(host):
    timer, calls = qt.QTimer(), []
    timer.singleShot = True
    assert timer.singleShot is True
    qt.QTimer.singleShot(0, lambda: calls.append(1))
    assert host.process(1, lambda: calls)


def test_names_enums_and_conveniences(host):
    button = qt.QPushButton()
    button.name = "apply"
    assert button.objectName == "apply"
    assert button.className() == "QPushButton"
    process = qt.QProcess()
    assert process.NotRunning == qt.QProcess.NotRunning
    assert not hasattr(qt, "Signal")
    button.delete()
    with pytest.raises(RuntimeError):
        button.setText("gone")


def test_own_attributes_on_qt_objects_are_found(host):
    frame = qt.QFrame()
    button = qt.QPushButton("x", frame)
    button.clicked.connect(lambda: None)
    assert dialect.illegalAttributes(frame) == []
    button.checkd = True
    assert dialect.illegalAttributes(frame) == ["QPushButton '': checkd"]
