"""The training verbs of the command ``lckd``; each does its imports when it runs."""

import os
from pathlib import Path

from lckd.errors import InputError


def add_commands(verbs) -> None:
    """Called by ``lckd`` through its entry-point group with the sub-parsers."""
    phantom = verbs.add_parser("phantom", help="write synthetic studies with labels, BraTS layout")
    phantom.add_argument("out", type=Path, metavar="OUT")
    phantom.add_argument("--cases", type=int, default=1, metavar="N")
    phantom.add_argument("--size", type=int, default=160, metavar="S", help="voxels an edge (default 160)")
    phantom.add_argument("--seed", type=int, default=0, metavar="K")
    phantom.add_argument("--healthy", action="store_true", help="brains without a tumour")
    phantom.set_defaults(run=_phantom)
    train = verbs.add_parser("train", help="train a recipe")
    train.add_argument("config", type=Path, metavar="CONFIG")
    train.add_argument("overrides", nargs="*", metavar="key=value")
    train.add_argument("--data", type=Path, metavar="DIR", help="folder of labelled cases")
    train.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: runs/NAME)")
    train.add_argument("--resume", action="store_true")
    train.set_defaults(run=_train)
    evaluate = verbs.add_parser("evaluate", help="Dice of a model on labelled cases, all 15 subsets")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--out", type=Path, required=True, metavar="REPORT_DIR")
    evaluate.set_defaults(run=_evaluate)
    export = verbs.add_parser("export", help="evaluate a run and write its model folder")
    export.add_argument("run_folder", type=Path, metavar="RUN")
    export.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR")
    export.add_argument("--data", type=Path, metavar="DIR", help="labelled cases, if they have moved")
    export.add_argument("--version", default="0.1.0")
    export.set_defaults(run=_export)


def _phantom(options) -> None:
    from .phantom import write_phantoms

    for folder in write_phantoms(options.out, options.cases, options.size, options.seed, options.healthy):
        print(folder)


def _train(options) -> None:
    # glibc hands memory back and asks for it anew at every iteration, which costs a third of the time; these two
    # settings are read when a process starts, so the command starts itself once more with them.
    settings = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
    if os.name == "posix" and not os.environ.keys() & settings:
        import sys

        os.execve(sys.executable, [sys.executable, "-m", "lckd", *sys.argv[1:]], {**os.environ, **settings})
    from .config import load_config
    from .training import train

    config = load_config(options.config, options.overrides)
    data = options.data or (Path(config.data) if config.data else None)
    if data is None:
        raise InputError("no data to train on; name a folder of labelled cases with --data")
    print(train(config, data, options.out or Path("runs") / config.name, options.resume))


def _evaluate(options) -> None:
    from lckd.inference import choose_device
    from lckd.model_folder import load_model

    from .data import cached, find_cases
    from .evaluation import evaluate, markdown_table, write_evaluation

    model = load_model(options.model)
    cases = [cached(case, model.preprocessing, options.out / "cache") for case in find_cases(options.data)]
    rows = evaluate(model.network(), cases, model.card["inference"]["window"], choose_device("auto"))
    print(markdown_table(write_evaluation(rows, options.out)))


def _export(options) -> None:
    from .export import export

    print(export(options.run_folder, options.out, options.data, options.version))
