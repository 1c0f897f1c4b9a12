"""The smallest run there is, for the tests: six iterations on three phantoms."""

from lckd_training.config import load_config
from lckd_training.training import train

TINY = ["widths=[4,8]", "depth=1", "patch=32", "final_patch=96", "final_from=1", "iterations=6", "elect_every=3"]
TINY += ["checkpoint_every=2", "workers=0"]


def run(recipe, phantoms, out, *overrides, resume=False):
    return train(load_config(recipe, [*TINY, *overrides]), phantoms, out, resume, echo=lambda text: None)
