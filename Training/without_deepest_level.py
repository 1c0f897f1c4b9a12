"""Make model 0.7.1 (five levels) into the one that run 9 begins from: four levels, the deepest one's constant kept.

python Training/without_deepest_level.py MODEL_DIR PHANTOM_DIR OUT

The deepest level (32 mm) of 0.7.1 says the same whatever the image shows. What it adds to the level above it, as a mean
over the brain of healthy phantoms, goes into that level's bias; the layer that was the decoder's first stays.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from lckd.architectures import build_network
from lckd.model_folder import CARD, WEIGHTS, load_model, sha256
from lckd.preprocessing import Preprocessing
from lckd.weights import packed
from lckd_training.data import cached
from lckd_training.layouts import find_cases

model, phantoms, out = map(Path, sys.argv[1:])
old = load_model(model).network()
constants = []
with torch.inference_mode():
    for case in find_cases(phantoms):
        case = cached(case, Preprocessing(), out / "cache")
        images = torch.from_numpy(case.images.astype("float32"))
        size = [-(-n // old.stride) * old.stride for n in images.shape[1:]]
        whole = torch.zeros(4, 1, *size)
        whole[:, 0, : images.shape[1], : images.shape[2], : images.shape[3]] = images
        features = old.encode(whole, torch.arange(4))
        for subset in [[0], [1], [2], [3], [0, 1, 2, 3]]:
            available = torch.zeros(1, 4, dtype=torch.bool)
            available[0, subset] = True
            adds = old.rises[0](old.fusions[-1](features[-1][None], available))
            brain = old._brains(features[0][None], available)[-1].bool().expand_as(adds)
            values = adds[brain].reshape(adds.shape[1], -1)
            constants.append(values.mean(1))
constant = torch.stack(constants).mean(0)

deepest = len(old.encoder) - 1
weights = {}
for name, value in old.state_dict().items():
    part, number, *rest = [*name.split("."), ""] if name == "contrast" else name.split(".")
    if (part in ("encoder", "fusions") and int(number) == deepest) or (part == "rises" and number == "0"):
        continue
    if part == "decoder" and number == "0":
        part = "bottleneck"
    elif part in ("rises", "decoder"):
        number = str(int(number) - 1)
    weights[".".join(filter(None, [part, number, *rest]))] = value.clone()
weights[f"fusions.{deepest - 1}.bias"] += constant

card = json.loads((model / CARD).read_text())
card["architecture"]["widths"].pop()
card["architecture"]["bottleneck_layer"] = True
build_network(card["architecture"]).load_state_dict(weights)
save_file(packed(weights), out / WEIGHTS)
card["weights_sha256"] = sha256(out / WEIGHTS)
(out / CARD).write_text(json.dumps(card, indent=1) + "\n")
(out / "training").mkdir(exist_ok=True)
(out / "training" / "split.json").write_text((model / "training" / "split.json").read_text())
print(sum(v.numel() for v in weights.values()), (out / WEIGHTS).stat().st_size)
