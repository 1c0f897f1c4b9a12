"""The whole path in one page: volumes -> study -> prepared array -> probabilities -> labels -> results."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .inference import choose_device, predict
from .model_folder import load_model
from .picture import draw_picture
from .preprocessing import prepare
from .report import build_report, cost_sentences, label_table
from .results import (
    check_output,
    check_writable,
    millilitres,
    on_reference,
    to_labels,
    write_bytes,
    write_labels,
    write_probabilities,
    write_text,
)
from .studies import choose_study
from .volumes import find_volumes

STAGES = ("read", "prepare", "segment", "write")
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, of)."""


@dataclass(frozen=True)
class Request:
    """What to segment, with what, and what to write: the options of ``lckd segment``."""

    inputs: list[Path]
    output: Path
    given: Mapping[str, Path] = field(default_factory=dict)
    model: Path | None = None
    device: str = "auto"
    report: Path | None = None
    picture: Path | None = None
    probabilities: Path | None = None
    labels: str = "brats"


def segment(request: Request, progress: Progress = lambda stage, done, of: None) -> dict:
    """Segment one study and write what was asked for; returns the report.

    Raises:
        InputError: an input, option or the model is wrong; nothing has been written.
    """
    check_output(request.output)
    for path in filter(None, (request.report, request.picture)):
        check_writable(path)
    device = choose_device(request.device)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str, of: int = 1):
        progress(name, 0, of)
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 2)

    with stage("read"):
        model = load_model(request.model)
        study = choose_study(find_volumes(request.inputs), request.given)
        images = {name: volume.read() for name, volume in study.volumes.items()}
        reference_name = study.reference
        reference = images[reference_name]
    with stage("prepare"):
        prepared = prepare(images, reference_name, model.preprocessing)
        del images  # 36 MB each, and the network needs the room
        network = model.network().to(device)
    with stage("segment"):
        window = model.card["inference"]["window"]
        report_window = lambda done, of: progress("segment", done, of)  # noqa: E731
        probabilities = predict(network, prepared.images, prepared.modalities, window, device, report_window)
    with stage("write"):
        probabilities = on_reference(probabilities, prepared, reference)
        labels = to_labels(probabilities)
        run = {
            "reference": reference_name,
            "preprocessing": prepared.steps,
            "warnings": prepared.warnings,
            "labels": label_table(request.labels),
            "device": device.type,
            "seconds": seconds,
        }
        volumes_ml = millilitres(labels, reference.GetSpacing())
        report = build_report(study, model, volumes_ml, run)
        report["expectation"] = cost_sentences(study.available, model)
        if request.probabilities:
            write_probabilities(probabilities, reference, request.probabilities)
        if request.picture:
            write_bytes(draw_picture(reference, labels, report), request.picture)
        write_labels(labels, reference, request.output, request.labels)
    if request.report:
        write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", request.report)
    progress("done", 1, 1)
    return report
