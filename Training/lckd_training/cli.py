"""The training verbs of the command ``lckd``; each does its imports when it runs."""

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from lckd.errors import InputError

MODEL_OR_RUN = "a model folder, or a run folder with its last checkpoint"
OVERRIDES = "a setting to change; Training/lckd_training/config.py lists them"


def add_commands(verbs) -> None:
    """Called by ``lckd`` through its entry-point group with the sub-parsers."""
    phantom = verbs.add_parser("phantom", help="write synthetic studies with labels, BraTS layout")
    phantom.add_argument("out", type=Path, metavar="OUT", help="folder to write the cases to")
    phantom.add_argument("--cases", type=int, default=1, metavar="N", help="how many (default 1)")
    phantom.add_argument("--size", type=int, default=160, metavar="S", help="voxels an edge, 48 to 256 (default 160)")
    phantom.add_argument("--seed", type=int, default=0, metavar="K", help="another one makes other cases (default 0)")
    phantom.add_argument("--healthy", action="store_true", help="brains without a tumour")
    phantom.set_defaults(run=_phantom)
    train = verbs.add_parser("train", help="train a recipe")
    train.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, as in Training/configs")
    train.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    train.add_argument("--data", type=Path, metavar="DIR", help="folder of labelled cases")
    train.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, by its own recipe and split")
    train.add_argument("--skip-bad", action="store_true", help="go on without cases that cannot be used")
    train.set_defaults(run=_train)
    evaluate = verbs.add_parser("evaluate", help="Dice of a model on labelled cases, all 15 subsets")
    evaluate.add_argument("model", type=Path, metavar="MODEL_OR_RUN", help=MODEL_OR_RUN)
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of labelled cases")
    evaluate.add_argument("--out", type=Path, required=True, metavar="REPORT_DIR", help="folder for the report")
    evaluate.add_argument("--subsets", default="all", metavar="all|T1+T2,...", help="which subsets (default: all 15)")
    evaluate.add_argument("--compare", type=Path, metavar="REPORT_DIR", help="another evaluation: paired differences")
    evaluate.add_argument("--skip-bad", action="store_true", help="go on without cases that cannot be used")
    evaluate.set_defaults(run=_evaluate)
    export = verbs.add_parser("export", help="evaluate a run, or several, and write the model folder")
    runs = "a run; several of one recipe with other held-out cases (cross-validation); or a model to make again"
    export.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=runs)
    export.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR", help="the model folder to write")
    export.add_argument("--data", type=Path, metavar="DIR", help="labelled cases, if they have moved")
    export.add_argument("--version", help="default: 0.1.0, or a model folder's own")
    export.add_argument("--history", type=Path, metavar="FILE", help="what came before the run, a text for the card")
    export.set_defaults(run=_export)
    elect = verbs.add_parser("elect", help="each sequence alone on labelled cases, and who would teach")
    elect.add_argument("model", type=Path, metavar="MODEL_OR_RUN", help=MODEL_OR_RUN)
    elect.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of labelled cases")
    elect.add_argument("--skip-bad", action="store_true", help="go on without cases that cannot be used")
    elect.set_defaults(run=_elect)
    study = verbs.add_parser("study", help="ways of teaching side by side, and none at all")
    study.add_argument("config", type=Path, metavar="CONFIG", help="a recipe, as in Training/configs")
    study.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    study.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of labelled cases")
    study.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the runs and the table")
    study.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each way (default 1)")
    study.set_defaults(run=_study)
    benchmark = verbs.add_parser("benchmark", help="how fast it is on this machine, beside the authors' network")
    benchmark.add_argument("--model", type=Path, metavar="DIR", help="default: the bundled one")
    benchmark.add_argument("--training", type=Path, metavar="CONFIG", help="time an iteration of this recipe instead")
    benchmark.add_argument("--json", action="store_true", help="the result as JSON")
    benchmark.set_defaults(run=_benchmark)


def _phantom(options) -> None:
    from .phantom import write_phantoms

    for folder in write_phantoms(options.out, options.cases, options.size, options.seed, options.healthy):
        print(folder)


def _keep_memory() -> None:
    """Start the command once more, keeping memory: glibc hands it back and asks for it anew at every iteration.

    That costs an eighth of the time, and the two settings are read only when a process starts. A script that calls
    ``lckd.cli.main`` goes on as it is.
    """
    if Path(sys.argv[0]).stem not in ("lckd", "__main__"):
        return
    settings = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
    if os.name == "posix" and not os.environ.keys() & settings:
        os.execve(sys.executable, [sys.executable, "-m", "lckd", *sys.argv[1:]], {**os.environ, **settings})


def _train(options) -> None:
    _keep_memory()
    from .config import RECIPE, load_config

    named = [word for word in options.overrides if word.startswith("name=")]
    out = options.out or Path("runs") / load_config(options.config, named).name
    begun = options.resume and (out / RECIPE).is_file()
    config = load_config(out / RECIPE if begun else options.config, options.overrides)
    data = options.data or (Path(config.data) if config.data else None)
    if data is None:
        raise InputError("no data to train on; name a folder of labelled cases with --data")
    from .training import train  # after the rest, which needs no torch: wrong settings are refused at once

    print(train(config, data, out, options.resume, options.skip_bad))


def _evaluate(options) -> None:
    from .comparison import compare, read_dice

    wanted = _subsets(options.subsets)
    if options.compare:
        read_dice(options.compare)  # refuses what is no evaluation before the work is done
        if options.compare.resolve() == options.out.resolve():
            raise InputError(f"{options.out}: --compare names the folder that --out would write over; choose another")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=options.out) as cache:  # prepared patients do not stay behind
            _write_report(options, wanted, Path(cache))
    except InputError:
        with suppress(OSError):  # it is not empty
            options.out.rmdir()
        raise
    if options.compare:
        table = compare(options.out, options.compare)
        (options.out / "comparison.md").write_text(table, encoding="utf-8")
        print(table)


def _write_report(options, wanted: list[tuple[str, ...]], cache: Path) -> None:
    from lckd.inference import choose_device

    from .evaluation import evaluate, markdown_table, write_evaluation
    from .worst_cases import WorstCases

    network, window, rules, teachers, cases, title = _model_and_cases(options, cache)
    worst = WorstCases()
    rows = evaluate(network, cases, window, choose_device("auto"), rules, wanted=wanted, worst=worst)
    if not rows:
        raise InputError(f"{options.data}: no case has all sequences of any subset in {options.subsets}")
    print(markdown_table(write_evaluation(rows, options.out, title, teachers, worst), teachers))


def _subsets(text: str) -> list[tuple[str, ...]]:
    """The subsets of ``--subsets``, in their usual order."""
    from lckd.anatomy import subsets

    if text == "all":
        return subsets()
    wanted = {frozenset(word.split("+")) for word in text.split(",")}
    if unknown := wanted - {frozenset(subset) for subset in subsets()}:
        raise InputError(f"--subsets: {'+'.join(sorted(unknown.pop()))} is no subset; write them like T1+T2,FLAIR")
    return [subset for subset in subsets() if frozenset(subset) in wanted]


def _elect(options) -> None:
    from lckd.inference import choose_device

    from .election import elect, score_table, single_modality_scores

    with tempfile.TemporaryDirectory() as cache:
        network, window, _, _, cases, _ = _model_and_cases(options, Path(cache))
        election = elect(single_modality_scores(network, cases, window, choose_device("auto")), {}, 0)
    print(f"{len(cases)} cases\n\n{score_table(election.scores, election.teachers)}")


def _model_and_cases(options, cache: Path):
    """The network of a model folder or run, its window, rules and teachers, a folder's prepared cases, its title."""
    from lckd.model_folder import load_model
    from lckd.preprocessing import Preprocessing

    from .data import patient, prepared_cases
    from .layouts import find_cases
    from .run_folder import CHECKPOINT, RECORDS, SPLIT, averaged_network, read_split

    model, found = options.model, find_cases(options.data)
    if (model / CHECKPOINT).is_file():
        network, config, state = averaged_network(model)
        records = model
        teachers = state["elections"][-1]["teachers"] if state["elections"] else {}
        window, rules, settings = config.window, config.rules, Preprocessing()
        title = f"run {model.resolve().name}, iteration {state['iteration']}"
    else:
        loaded = load_model(model)
        records = model / RECORDS
        network, window, settings = loaded.network(), loaded.window, loaded.preprocessing
        rules, teachers, title = loaded.rules, loaded.teachers, f"model {loaded.title}"
    trained = read_split(records)["training"] if (records / SPLIT).is_file() else []
    patients = {patient(name) for name in trained}
    if trained_on := [case for case in found if patient(case.name) in patients]:
        print(
            f"lckd: {len(trained_on)} of the {len(found)} cases were trained on; their Dice flatters", file=sys.stderr
        )
    cases = prepared_cases(found, settings, cache, options.skip_bad, lambda words: print(words, file=sys.stderr))
    return network, window, rules, teachers, cases, title


def _study(options) -> None:
    _keep_memory()
    from .config import load_config

    config = load_config(options.config, options.overrides)
    from .study import study

    print(study(config, options.data, options.out, options.seeds))


def _benchmark(options) -> None:
    if options.training:
        _keep_memory()  # before torch is imported, or it would be twice
        from .config import load_config

        config = load_config(options.training)
        from .benchmark import benchmark_training

        found = benchmark_training(config)
    else:
        from .benchmark import benchmark

        found = benchmark(options.model, lambda words: print(words, file=sys.stderr))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:32} {value}")


def _export(options) -> None:
    from .export import export

    print(export(options.runs, options.out, options.data, options.version, options.history))
