"""The device of the study's networks: the one that a command or a chapter was given, for the whole process."""

from __future__ import annotations

import argparse
import os

import torch

from stemlib.devices import DEVICES, device

VARIABLE = "STEMLIB_DEVICE"  # which the jobs of a batch inherit


def chosen() -> torch.device:
    """The device that `STEMLIB_DEVICE` names; `auto` without it.

    Raises:
        ValueError: see `stemlib.devices.device`.
    """
    return device(os.environ.get(VARIABLE) or "auto")


def choose(name: str) -> None:
    """Compute on a device from now on; `auto` leaves it as it is.

    Raises:
        ValueError: see `stemlib.devices.device`.
    """
    if name != "auto":
        device(name)
        os.environ[VARIABLE] = name


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option `--device` to a command; the device is chosen as soon as the option is read."""

    def read(name: str) -> str:
        try:
            choose(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return name

    told = f"{', '.join(DEVICES)} (default: a GPU where there is one)"
    parser.add_argument("--device", type=read, default="auto", metavar="DEVICE", help=told)
