"""Signals and slots the way PythonQt does them: ``sender.connect("clicked(bool)", callable)``.

PySide6 differs in three ways that hide or invent bugs: it has no callable slot by signature string that returns False
for an unknown signal, it counts slot arguments otherwise, and it may re-raise a slot's exception in the caller.
"""

from __future__ import annotations

import sys

import shiboken6
from PySide6 import QtCore

# Exceptions that nobody could catch (slots, timers, VTK observers, paint events). Tests assert that this stays empty.
errors: list[BaseException] = []

# "className: signature" of every connect() to a signal that does not exist. PythonQt only prints these, so a typo
# leaves a dead button; tests assert that this stays empty as well.
rejected: list[str] = []

# C++ address of the sender -> [(signal signature, callable as given, callable really connected)]
_live: dict[int, list[tuple[str, object, object]]] = {}

# PySide6 reads the wanted argument count off the callable, so the adapter must have exactly that many parameters.
# ruff: noqa: PLW0108
_ADAPTERS = (
    lambda call: lambda: call(),
    lambda call: lambda a: call(a),
    lambda call: lambda a, b: call(a, b),
    lambda call: lambda a, b, c: call(a, b, c),
    lambda call: lambda a, b, c, d: call(a, b, c, d),
)


def collectErrors() -> None:
    """Remember every exception that Qt or VTK can only print."""
    previous = sys.excepthook

    def hook(kind, value, trace):
        errors.append(value)
        previous(kind, value, trace)

    sys.excepthook = hook


def acceptedArguments(function) -> int | None:
    """How many positional arguments PythonQt would pass at most; None means all that the signal has.

    PythonQt looks at the code object only, so defaulted parameters count and callables without code get everything.
    """
    plain = getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    if code is None or code.co_flags & 0x04:  # 0x04: the function takes *args
        return None
    return code.co_argcount - (plain is not function)


def findSignal(sender: QtCore.QObject, text: str) -> str | None:
    """The signature under which Qt knows the signal *text*, or None.

    Stand-in widgets pass MRML objects as Python objects; they note the C++ type as the argument's name, so that
    ``currentNodeChanged(vtkMRMLNode*)`` is found and ``currentNodeChanged(vtkMRMLScene*)`` is not.
    """
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
    meta = sender.metaObject()
    if "PyObject" not in wanted and meta.indexOfSignal(wanted) >= 0:
        return wanted
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() != QtCore.QMetaMethod.MethodType.Signal:
            continue
        kinds = [bytes(kind).decode() for kind in method.parameterTypes()]
        names = [bytes(name).decode() for name in method.parameterNames()]
        if "PyObject" not in kinds:
            continue
        shown = [name if kind == "PyObject" else kind for kind, name in zip(kinds, names, strict=True)]
        if wanted == f"{bytes(method.name()).decode()}({','.join(shown)})":
            return bytes(method.methodSignature()).decode()
    return None


def _isSignature(arguments: tuple) -> bool:
    return bool(arguments) and isinstance(arguments[0], str) and not arguments[0][:1].isdigit()


def _callableFrom(target: tuple):
    """The slot: either a callable, or (receiver, "slotName(args)") which takes no more arguments than it names."""
    if len(target) == 1:
        return target[0], acceptedArguments(target[0])
    receiver, slot = target[:2]
    name, _, parameters = slot.rstrip(")").partition("(")
    return getattr(receiver, name), len([part for part in parameters.split(",") if part.strip()])


def _report(sender, text: str) -> bool:
    rejected.append(f"{sender.metaObject().className()}: {text}")
    print(f"connect: no signal '{text}' on {sender.metaObject().className()}", file=sys.stderr)
    return False


def connect(native, sender, *arguments):
    """``sender.connect(signal, callable)`` or ``(signal, receiver, slot)``; False if there is no such signal."""
    if not _isSignature(arguments):
        return native(*arguments)  # PySide6's own glue code calls connect() with other arguments
    text, target = arguments[0], arguments[1:]
    signature = findSignal(sender, text)
    if signature is None:
        return _report(sender, text)
    function, wanted = _callableFrom(target)

    def call(*values):
        try:
            function(*(values if wanted is None else values[:wanted]))
        except Exception:
            sys.excepthook(*sys.exc_info())

    parameters = signature[signature.index("(") + 1 : -1]
    adapter = _ADAPTERS[len(parameters.split(",")) if parameters else 0](call)
    key = shiboken6.getCppPointer(sender)[0]
    if key not in _live:
        _live[key] = []
        native("2destroyed()", lambda: _live.pop(key, None))  # addresses are used again for later objects
    if not native("2" + signature, adapter):
        return False
    _live[key].append((signature, target, adapter))
    return True


def disconnect(native, sender, *arguments):
    """Undo connect(); without a callable every slot of that signal goes."""
    if not _isSignature(arguments):
        return native(*arguments)
    text, target = arguments[0], arguments[1:]
    signature = findSignal(sender, text)
    if signature is None:
        return _report(sender, text)
    known = _live.get(shiboken6.getCppPointer(sender)[0], [])
    matching = [entry for entry in known if entry[0] == signature and (not target or entry[1] == target)]
    for entry in matching:
        native("2" + signature, entry[2])
        known.remove(entry)
    return bool(matching)
