"""The processes that train: one, or those that ``torchrun`` started, and how Ctrl-C reaches them."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from lckd.errors import InputError
from lckd.inference import choose_device, has_bfloat16

from .config import Config

ECHO = 2.0  # seconds


def start_fabric(config: Config) -> Fabric:
    """One process, or this one among those that ``torchrun`` started. Raises InputError where they cannot share."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        device = choose_device("auto")
        return Fabric(accelerator=device.type, devices=1, precision=precision_on(device, config))
    if config.batch % world:
        raise InputError(
            f"batch={config.batch} cannot be shared by {world} processes; choose a multiple, batch={world}"
        )
    if config.guidance == "staged":
        raise InputError("guidance=staged freezes parts of the network in turn, which one process must do alone")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    # While the first process elects, the others wait; an election takes its time where cases are many.
    strategy = DDPStrategy(find_unused_parameters=True, timeout=timedelta(days=1))
    accelerator = "cuda" if torch.cuda.device_count() >= local else "cpu"
    precision = precision_on(torch.device(accelerator), config)
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, strategy=strategy, precision=precision
    )
    fabric.launch()
    return fabric


def precision_on(device: torch.device, config: Config) -> str:
    """Fabric's name of the precision to train in on this device; ``auto`` takes bfloat16 only where it is fast."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if has_bfloat16(device) else "32-true"


@contextmanager
def interruptions():
    """Turn the first Ctrl-C, or SIGTERM of a cluster, into an event to look at; none comes but in the main thread.

    One within ECHO of it is the same one: the terminal sends it to every process, and torchrun passes its own on.
    """
    asked, at = threading.Event(), 0.0

    def note(number, frame):
        nonlocal at
        if asked.is_set() and time.monotonic() - at > ECHO:
            raise KeyboardInterrupt
        if not asked.is_set():
            asked.set()
            at = time.monotonic()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts(worker: int) -> None:
    """Of the processes that make samples: Ctrl-C or SIGTERM is for the one that trains, which still wants theirs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def any_process(fabric: Fabric, here: bool) -> bool:
    """Whether it is so in any of the processes, the same answer in all: one that left would keep the others waiting."""
    return bool(fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="sum").item())


def print_nothing(words: str) -> None:
    """What all processes but the first say."""
