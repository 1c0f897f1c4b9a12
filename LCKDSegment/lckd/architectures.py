"""The networks a model folder may hold, by the ``architecture`` of its card: what is allowed, and how one is built."""

from collections.abc import Mapping

COMPACT, PAPER = KINDS = ("compact", "paper")
SWITCHES = ("brain_norm", "mirrored", "bottleneck_layer")
"""Of the compact network; off where a card does not name them."""
PAPER_STRIDE = (16, 32, 32)
PAPER_CHOICES = {"missing_skips": ("mean", "zero_image"), "global_branch": ("live", "dead")}


def wrong_architecture(card: Mapping, window: tuple[int, ...]):
    """What cannot be meant in a card's architecture, or in its inference window, in words."""
    kind = card.get("kind", COMPACT)
    if kind not in KINDS:
        yield f"architecture.kind {kind!r} is none of {', '.join(KINDS)}"
        return
    if kind == PAPER:
        stride = PAPER_STRIDE
        for key, choices in PAPER_CHOICES.items():
            if card.get(key) not in choices:
                yield f"architecture.{key} {card.get(key)!r} is none of {', '.join(choices)}"
    else:
        widths, depth = card.get("widths"), card.get("depth")
        if not isinstance(widths, list) or not widths or not all(isinstance(w, int) and w > 0 for w in widths):
            yield f"architecture.widths {widths} are not channel numbers"
            return
        if not isinstance(depth, int) or depth < 0:
            yield f"architecture.depth {depth} is not a number of layers"
        for switch in SWITCHES:
            if not isinstance(card.get(switch, False), bool):
                yield f"architecture.{switch} {card[switch]!r} is not true or false"
        stride = (2 ** len(widths),) * 3
    if len(window) != 3 or any(not isinstance(n, int) or n <= 0 or n % s for n, s in zip(window, stride, strict=False)):
        yield f"inference.window {window} does not divide by the network's stride {stride}"


def build_network(architecture: Mapping):
    """A network of this architecture with random weights. Both kinds have ``encode`` and ``decode``."""
    options = {key: value for key, value in architecture.items() if key != "kind"}
    if architecture.get("kind", COMPACT) == PAPER:
        from .paper_network import PaperNetwork

        return PaperNetwork(**options)
    from .network import Network

    return Network(**options)
