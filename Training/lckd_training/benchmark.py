"""How fast it is here: whole commands and their stages, and the ratio to the authors' network on the same cores.

Everything is measured in one run and given as seconds and as ratios; on a shared machine only the ratios say much.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import SimpleITK as sitk
import torch
from torch.profiler import ProfilerActivity, profile

from lckd.anatomy import MODALITIES
from lckd.errors import InputError
from lckd.inference import has_bfloat16
from lckd.paper_network import PATCH, PaperNetwork

from .phantom import write_phantoms

GRID = (240, 240, 155)  # voxels of a BraTS study
LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)  # or Popen waits for it once more
print(json.dumps([time.perf_counter() - started, process.returncode, used.ru_maxrss]))
"""
"""A process's peak memory begins with that of the one that starts it, so a small one starts what is measured."""
PAPER_WINDOWS = 12  # of 80x160x160 over such a study, as the authors' evaluation takes them


def benchmark(model: Path | None, echo=print) -> dict:
    """Time the commands a user runs on a phantom study of 240x240x155 voxels, and the authors' network.

    Segmenting, as one window of the authors' network, is timed twice, and the faster time of the network counts.

    Raises:
        InputError: the system does not tell how much memory a process took.
    """
    _require_memory_counts()
    with tempfile.TemporaryDirectory() as folder:
        study = _study(Path(folder))
        echo("phantom study written")
        measured = []
        for turn in ("once", "twice"):
            measured.append([_segment(study, names, Path(folder), model) for names in (MODALITIES, ("FLAIR",))])
            echo(f"segmented {turn} from four sequences and from one")
        four, one = (min(of, key=lambda each: each["stages"]["segment"]) for of in zip(*measured, strict=True))
        sequences = _seconds("-m", "lckd", "sequences", str(study))
    paper = paper_window_seconds() * PAPER_WINDOWS
    echo("one window of the authors' network computed")
    around = sum(four["stages"][name] for name in ("read", "align", "prepare", "write"))
    return {
        "machine": _machine(),
        "segment_four": four,
        "segment_one": one,
        "sequences_seconds": sequences,
        "import_seconds": _seconds("-c", "import lckd.cli, lckd.studies"),
        "authors_network_seconds": round(paper, 1),
        "ratios": {
            "authors' network / ours, four sequences": round(paper / four["stages"]["segment"], 1),
            "one sequence / four, network": round(one["stages"]["segment"] / four["stages"]["segment"], 2),
            "reading, aligning, preparing, writing / network": round(around / four["stages"]["segment"], 2),
        },
    }


def paper_window_seconds() -> float:
    """One window of the authors' network, four sequences, float32, the faster of two."""
    network = PaperNetwork().eval()
    images = torch.randn(1, len(MODALITIES), *PATCH)
    seconds = []
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            network(images, MODALITIES)
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def benchmark_training(config, iterations: int = 8) -> dict:
    """Seconds of an iteration of a recipe (four modalities, forward, backward, update) and of making a sample."""
    _require_memory_counts()
    import resource

    from lckd.preprocessing import Preprocessing

    from .data import cached
    from .layouts import find_cases
    from .sampling import Samples
    from .training import Run

    with tempfile.TemporaryDirectory() as folder:
        list(write_phantoms(folder, cases=2, size=max(config.patch) + 32, seed=0))  # a host and a donor
        cases = [cached(case, Preprocessing(), Path(folder) / "cache") for case in find_cases(folder)]
        samples = Samples(cases, config)
        started = time.perf_counter()
        made = [[samples[i * config.batch + j] for j in range(config.batch)] for i in range(iterations)]
        loading = (time.perf_counter() - started) / (iterations * config.batch)
        run = Run(config, Path(folder), [], echo=lambda words: None)
        seconds = []
        for batch in made:
            started = time.perf_counter()
            run.step([run.fabric.to_device(sample) for sample in batch])
            seconds.append(time.perf_counter() - started)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run.step([run.fabric.to_device(sample) for sample in made[-1]])
    usual = sorted(seconds[2:])[len(seconds[2:]) // 2]  # the first two warm up
    return {
        "machine": _machine(),
        "patch": config.patch,
        "seconds_per_iteration": round(usual, 3),
        "iterations_per_second": round(1 / usual, 2),
        "seconds_per_sample_in_a_worker": round(loading, 3),
        "share_of_time": _shares(profiler),
        "peak_gib": _gib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss),
    }


def _shares(profiler: profile, count: int = 6) -> dict[str, float]:
    """The operations that take most of a step's time on the processor, and their share of it."""
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    return {row.key: round(row.self_cpu_time_total / total, 2) for row in rows[:count]}


def _study(folder: Path) -> Path:
    """A phantom on the grid of a BraTS study."""
    study = next(write_phantoms(folder, cases=1, size=192, seed=0))  # 1 mm
    for path in study.glob("*.nii.gz"):
        image = sitk.ReadImage(str(path))
        below = (image.GetSize()[2] - GRID[2]) // 2
        image = image[:, :, below : below + GRID[2]]
        margin = [n - m for n, m in zip(GRID, image.GetSize(), strict=True)]
        before = [n // 2 for n in margin]
        after = [n - b for n, b in zip(margin, before, strict=True)]
        sitk.WriteImage(sitk.ConstantPad(image, before, after, 0), str(path))
    return study


def _segment(study: Path, modalities, folder: Path, model: Path | None) -> dict:
    """One ``lckd segment`` in a process of its own: seconds in all and by stage, its own peak memory.

    ``start`` is what no stage takes: Python's start, mostly the import of torch.
    """
    report = folder / "report.json"
    options = [w for m in modalities for w in (f"--{m.lower()}", str(study / f"{study.name}_{m.lower()}.nii.gz"))]
    options += ["-o", str(folder / "out.seg.nrrd"), "--report", str(report), "--device", "cpu"]
    seconds, peak = _run("-m", "lckd", "segment", *options, *(["--model", str(model)] if model else []))
    stages = json.loads(report.read_text(encoding="utf-8"))["seconds"]
    start = round(seconds - sum(stages.values()), 2)
    return {"seconds": seconds, "stages": {"start": start, **stages}, "peak_gib": peak}


def _seconds(*arguments: str) -> float:
    return _run(*arguments)[0]


def _run(*arguments: str) -> tuple[float, float]:
    """Seconds that Python takes with these arguments, and its peak memory in GiB."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    launched = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds, status, peak = json.loads(launched.stdout)
    if status:
        raise InputError(f"{' '.join(arguments[:3])} failed: {launched.stderr.strip().splitlines()[-1]}")
    return round(seconds, 2), _gib(peak)


def _require_memory_counts() -> None:
    if os.name != "posix":
        raise InputError("lckd benchmark cannot measure memory on this system; run it on Linux or macOS")


def _gib(peak: int) -> float:
    """A process's ``ru_maxrss`` in GiB: macOS counts bytes, Linux kibibytes."""
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)


def _machine() -> dict:
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "bfloat16": has_bfloat16(torch.device("cpu")),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
