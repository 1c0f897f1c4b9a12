"""The command ``lckd``: parse, call, and say errors in one line. Training verbs come from an entry-point group.

Exit status 0: done; 2: the input or the options are wrong; 130: cancelled.
"""

import argparse
import json
import signal
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

from . import __version__
from .anatomy import LABEL_CONVENTIONS, MODALITIES, STRUCTURES
from .conditioning import CHOICES
from .errors import Cancelled, InputError

PLUGINS = "lckd.commands"
"""Entry points of this group are called with the sub-parsers and add their own verbs (the Training package's)."""


def main(arguments: list[str] | None = None) -> int:
    """Run one ``lckd`` command; returns the exit status."""
    signal.signal(signal.SIGTERM, _cancel)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the work
    try:
        options = parse(arguments)
        return options.run(options) or 0
    except InputError as error:
        return _refuse(error)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        return _refuse(f"{error.filename or 'the operating system'}: {error.strerror or error}")
    except MemoryError as error:  # torch's own errors of this kind are RuntimeErrors
        return _refuse(f"memory ran out ({error}); close other programs, or use a machine with more")
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return _refuse(f"memory ran out ({str(error).splitlines()[0][:120]}); try --device cpu")
    except ModuleNotFoundError as error:
        return _refuse(
            f"the Python package {error.name} is missing; install it, or for training and phantoms run "
            "pip install '.[training]' in the repository"
        )
    except (Cancelled, KeyboardInterrupt):
        print("lckd: cancelled", file=sys.stderr)
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of a command line. Inputs, and ``key=value`` words where a verb takes them, may stand anywhere."""
    parser = build_parser()
    options, extra = parser.parse_known_args(arguments)
    plain = not any(word.startswith("-") for word in extra)
    if extra and plain and hasattr(options, "inputs"):
        options.inputs += map(Path, extra)
    elif extra and plain and hasattr(options, "overrides") and all("=" in word for word in extra):
        options.overrides += extra
    elif extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return options


def _refuse(reason) -> int:
    print(f"lckd: {reason}", file=sys.stderr)
    return 2


class Parser(argparse.ArgumentParser):
    """Options that are wrong, or cut short, end in the same one line as inputs that are wrong."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options, allow_abbrev=False)

    def error(self, message: str):
        raise InputError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lckd", description="Glioma segmentation from whichever of T1, T1ce, T2, FLAIR there are. "
                    "Research use only.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"lckd {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(verbs)
    _add_sequences(verbs)
    _add_model(verbs)
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()(verbs)
        except Exception as error:  # whatever another package's code raises: it must not stop a segmentation
            print(f"lckd: the commands of {plugin.value} are left out ({error})", file=sys.stderr)
    return parser


def _add_segment(verbs) -> None:
    verb = verbs.add_parser("segment", help="segment the glioma of one study")
    verb.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="volumes, or folders of volumes or DICOM")
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=".seg.nrrd or .nii.gz")
    for name in MODALITIES:
        verb.add_argument(f"--{name.lower()}", type=Path, metavar="FILE", help=f"the {name} volume, whatever its name")
    verb.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the bundled one)")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    verb.add_argument("--report", type=Path, metavar="R.json", help="write the report")
    verb.add_argument("--picture", type=Path, metavar="P.png", help="write three planes and the volumes as a picture")
    verb.add_argument("--probabilities", type=Path, metavar="DIR", help="write each region's probability in percent")
    verb.add_argument("--labels", default="brats", choices=LABEL_CONVENTIONS, help="voxel values (default: brats)")
    verb.add_argument("--register", default="auto", choices=CHOICES, help="line the volumes up (default: where needed)")
    verb.add_argument(
        "--brain", default="auto", choices=CHOICES, help="find the brain (default: where the skull shows)"
    )
    verb.add_argument("--json-progress", action="store_true", help="one JSON object a line on stdout")
    verb.set_defaults(run=_segment)


def _segment(options) -> None:
    from .segment import Request, segment

    given = {name: path for name in MODALITIES if (path := getattr(options, name.lower()))}
    if not options.inputs and not given:
        raise InputError("nothing to segment; name files, folders, or --t1, --t1ce, --t2, --flair FILE")
    request = Request(
        options.inputs, options.output, given, options.model, options.device, options.report, options.picture,
        options.probabilities, options.labels, options.register, options.brain,
    )  # fmt: skip
    report = segment(request, _json_progress if options.json_progress else progress_bar())
    if options.json_progress:
        print(json.dumps({"stage": "report", "report": report}), flush=True)
    else:
        _print_report(report, options.output)


def _print_report(report: dict, output: Path) -> None:
    from .report import volume_words

    for name, entry in report["inputs"].items():
        print(f"{name:6} {entry['volume']}")
    for name, structure in STRUCTURES.items():
        print(f"{name:6} {volume_words(report, name):>8} mL  {structure.title}")
    for sentence in report["warnings"]:
        print(f"  Warning: {sentence}")
    for sentence in report["expectation"]:
        print(f"  {sentence}")
    print(f"{output}\n{report['notice']}")


def _add_sequences(verbs) -> None:
    verb = verbs.add_parser("sequences", help="say which sequence each volume is, how sure, and why")
    verb.add_argument("inputs", nargs="+", type=Path, metavar="INPUT")
    verb.add_argument("--look", action="store_true", help="read the images too: skull or not, lined up or not")
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(run=_sequences)


def _sequences(options) -> None:
    from .studies import choose_study, judge
    from .volumes import find_volumes

    volumes = find_volumes(options.inputs)
    condition = {}
    try:
        study = choose_study(volumes, {})
    except InputError as error:
        judged, chosen, notes = judge(volumes), None, [str(error)]
    else:
        if options.look:
            condition = _conditions(study)
        judged = [(volume, study.findings[name]) for name, volume in study.volumes.items()] + study.others
        judged.sort(key=lambda entry: volumes.index(entry[0]))
        chosen, notes = {name: volume.address for name, volume in study.volumes.items()}, study.warnings
    rows = [
        {"name": v.name, "path": v.address, "modality": f.modality, "confidence": round(f.confidence, 3),
         "evidence": f.evidence, "acquired": condition.get(v.key) or _geometry_words(v)}
        for v, f in judged
    ]  # fmt: skip
    if options.json:
        print(json.dumps({"volumes": rows, "study": chosen, "notes": notes}, indent=2))
        return
    for row in rows:
        reasons = "; ".join(row["evidence"])
        print(f"{row['modality'] or '-':6} {row['confidence']:4.0%}  {row['name']} ({row['acquired']}): {reasons}")
    print(f"study: {', '.join(name for name in MODALITIES if name in chosen)}" if chosen else "no study")
    for note in notes:
        print(f"  {note}")


def _geometry_words(volume) -> str:
    try:
        return volume.geometry().words
    except InputError as error:
        return str(error)


def _conditions(study) -> dict[tuple, str]:
    """A volume's key -> how it was acquired and lies, in words: with skull, 5.5 mm axial, 3 mm off the reference."""
    from .conditioning import describe
    from .registration import misalignment
    from .studies import choose_reference

    images = study.read()
    reference = choose_reference(images)
    words = {}
    for name, image in images.items():
        offset = 0.0 if name == reference else misalignment(images[reference], image)
        place = "the reference" if name == reference else f"{offset:.0f} mm off" if offset else "lined up"
        words[study.volumes[name].key] = f"{describe(image)}, {place}"
    return words


def _add_model(verbs) -> None:
    verb = verbs.add_parser("model", help="show or verify a model folder")
    verb.add_argument("action", choices=("show", "verify"))
    verb.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: the bundled model")
    verb.set_defaults(run=_model)


def _model(options) -> None:
    from .model_folder import load_model

    model = load_model(options.folder)
    if options.action == "verify":
        model.network()
        print(f"{model.title}: complete; weights match SHA-256 {model.card['weights_sha256']}")
    else:
        print(json.dumps(model.card, indent=2))


def _json_progress(stage: str, done: int, of: int) -> None:
    print(json.dumps({"stage": stage, "done": done, "of": of}), flush=True)


def progress_bar():
    """A progress callback that draws one line on a terminal, and nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        return lambda stage, done, of: None
    started = {}

    def show(stage: str, done: int, of: int) -> None:
        begin = started.setdefault(stage, time.monotonic())
        filled = round(30 * done / of)
        left = f"{(time.monotonic() - begin) / done * (of - done):.0f} s left" if done else ""
        print(f"\r{stage:8} [{'#' * filled:30}] {done}/{of} {left:12}", end="", file=sys.stderr, flush=True)
        if stage == "done":
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)

    return show


def _cancel(number, frame):
    raise Cancelled
