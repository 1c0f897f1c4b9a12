"""connect() and disconnect() by signature, argument trimming, collected exceptions."""

import qt


def test_arguments_are_trimmed_to_the_slot(host):
    button, got = qt.QPushButton(), []
    button.checkable = True
    assert button.connect("clicked(bool)", lambda: got.append("none"))
    assert button.connect("clicked(bool)", lambda on: got.append(not on))
    assert button.connect("clicked(bool)", got.append)
    assert button.connect("clicked(bool)", lambda *values: got.append(values))
    button.click()
    assert got == ["none", False, True, (True,)]


def test_disconnect(host):
    button, got = qt.QPushButton(), []
    button.connect("clicked()", got.clear)
    assert button.connect("clicked()", button.hide)
    assert button.disconnect("clicked()", button.hide)
    assert not button.disconnect("clicked()", button.hide)
    button.show()
    button.click()
    assert button.visible


def test_unknown_signal_returns_false(troubled):
    assert qt.QComboBox().connect("currentIndexChanged(QString)", print) is False
    assert troubled.problems() == ["connect() to an unknown signal: QComboBox: currentIndexChanged(QString)"]


def test_cpp_types_of_stand_in_signals(troubled):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    assert selector.connect("currentNodeChanged(vtkMRMLNode*)", print)
    assert selector.connect("currentNodeChanged(bool)", print)
    assert not selector.connect("currentNodeChanged(vtkMRMLScene*)", print)
    assert not selector.connect("currentNodeChanged(PyObject)", print)


def test_receiver_and_slot(host):
    box, label = qt.QCheckBox(), qt.QLabel()
    assert box.connect("toggled(bool)", label, "setEnabled(bool)")
    box.click()
    box.click()
    assert not label.enabled


def test_exceptions_are_collected(troubled):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.clicked.connect(lambda: {}["x"])
    button.click()
    assert len(troubled.problems()) == 2


def test_process_output_and_exit(host):
    import sys

    process, exits = qt.QProcess(), []
    assert process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: exits.append(code))
    process.start(sys.executable, ["-c", "print('hello'); raise SystemExit(3)"])
    assert host.process(10, lambda: exits)
    assert exits == [3]
    assert bytes(process.readAllStandardOutput().data()).strip() == b"hello"
