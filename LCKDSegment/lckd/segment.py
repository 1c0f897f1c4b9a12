"""The whole path in one page: volumes -> study -> prepared array -> probabilities -> labels -> results."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .anatomy import LABEL_CONVENTIONS, REGIONS
from .conditioning import AUTO, condition, doubt_thick_slices, ends_at_mask
from .inference import choose_device, predict_within_memory
from .model_folder import load_model
from .picture import draw_picture
from .postprocessing import apply_rules
from .preprocessing import prepare
from .report import build_report
from .results import (
    SEGMENTATION,
    Outputs,
    check_outputs,
    label_image,
    make_folder,
    millilitres,
    on_reference,
    percent_image,
    pieces_millilitres,
    to_labels,
)
from .studies import choose_reference, choose_study
from .volumes import find_volumes

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
    register: str = AUTO
    brain: str = AUTO


def segment(request: Request, progress: Progress = lambda stage, done, of: None) -> dict:
    """Segment one study and write what was asked for; returns the report.

    Raises:
        InputError: an input, option or the model is wrong; nothing has been written.
    """
    probability_files = _check_files(request)
    device = choose_device(request.device)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str):
        progress(name, 0, 1)
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 2)

    with stage("load"):
        model = load_model(request.model)
        network = model.network()
    with stage("read"):
        study = choose_study(find_volumes(request.inputs), request.given)
        images = study.read()
        study.compare_with(images)
        reference_name = choose_reference(images)
        reference = images[reference_name]
    with stage("align"):
        conditioned = condition(images, reference_name, request.register, request.brain)
    with stage("prepare"):
        prepared = prepare(images, reference_name, model.preprocessing, conditioned.transforms, conditioned.brain)
        for name, why in prepared.left_out.items():
            study.leave_out(name, why)
            conditioned.forget(name)
        conditioned.warnings += doubt_thick_slices({name: images[name] for name in prepared.modalities})
        del images  # 36 MB each, and the network needs the room
    with stage("segment"):
        probabilities, place, memory_notes = predict_within_memory(
            network, prepared.images, prepared.modalities, model.window, device, partial(progress, "segment")
        )
    progress("write", 0, 1)  # timed by hand: the report, one of the files, holds the time
    started = time.perf_counter()
    probabilities, notes, doubts = apply_rules(
        probabilities * prepared.foreground, model.rules, prepared.voxel_ml, prepared.modalities
    )
    if conditioned.brain and ends_at_mask(probabilities[0] > 0.5, prepared.foreground):
        conditioned.warnings.append("enhancing tumour lies at the edge of the brain found: part of it may be cut off")
    probabilities = on_reference(probabilities, prepared, reference)
    labels = to_labels(probabilities)
    run = {
        "reference": reference_name,
        "preprocessing": [*conditioned.steps, *prepared.steps, *memory_notes, *notes],
        "alignment": {name: found.as_dict() for name, found in conditioned.alignments.items()},
        "pieces_ml": pieces_millilitres(labels, reference.GetSpacing()),
        "warnings": [*conditioned.warnings, *prepared.warnings],
        "labels": LABEL_CONVENTIONS[request.labels],
        "device": place.type,
        "seconds": seconds,
    }
    report = build_report(study, model, millilitres(labels, reference.GetSpacing()), run)
    report["warnings"] = doubts + report["warnings"] + (memory_notes if place != device else [])
    segments = request.output.name.lower().endswith(SEGMENTATION)
    with Outputs() as outputs:
        if request.probabilities:
            outputs.folder(request.probabilities)
        outputs.image(label_image(labels, reference, segments, request.labels), request.output)
        for probability, path in zip(probabilities, probability_files, strict=False):
            outputs.image(percent_image(probability, reference), path)
        if request.picture:
            outputs.data(draw_picture(reference, labels, report, conditioned.brain), request.picture)
        seconds["write"] = round(time.perf_counter() - started, 2)
        if request.report:
            outputs.text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", request.report)
    progress("done", 1, 1)
    return report


def _check_files(request: Request) -> list[Path]:
    """Refuse files that cannot be written, before any work; returns those of the probabilities."""
    files = [request.probabilities / f"{name}.nii.gz" for name in REGIONS] if request.probabilities else []
    others = [path for path in (request.report, request.picture, *files) if path]
    made = bool(request.probabilities) and make_folder(request.probabilities)
    try:
        check_outputs(request.output, others, [*request.inputs, *request.given.values()])
    finally:
        if made:  # only to see that it can be
            request.probabilities.rmdir()
    return files
