"""Training an encoder without labels on a task's own graph: interruptible, and shared by all runs that start from it.

What it leaves in `<root>/<task>-<objective>-<key>/seed-<s>/`: `losses.csv` (a row per step), the encoder's weights,
and their settings, written last. Neither split nor labels nor the head's training have a part in it, so that every
split and every setting of the head reads the same encoder.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch_geometric.data import Data
from tqdm.auto import tqdm

from stemlib.baselines.networks import adjacency, network_input
from stemlib.baselines.probe import GraphEncoder, Probe
from stemlib.baselines.self_supervised import Bootstrap, objective
from stemlib.data.batches import union_of_graphs
from stemlib.data.tasks import Task
from stemlib.files import held, load_state, run_key, save_state, write_atomically
from stemlib.presets import PretextConfig, ProbeConfig
from stemlib.training.evaluation import EVALUATION_BATCH
from stemlib.weights import read_settings, write_weights

FORMAT = "stem-gnn-study self-supervised encoder, version 1"
SECONDS_BETWEEN_STATES = 15.0
OF_THE_HEAD = ("embedding_norm", "dropout", "pool")  # settings that the encoder does not know


def learning_rate(step: int, config: PretextConfig) -> float:
    """The rate of a step, counted from 0: it rises over the warm-up, then stays or falls along a cosine to 0."""
    rise = config.warmup * config.steps
    if step < rise:
        return config.lr * min(1.0, (step + 1) / rise)
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (config.steps - rise)))


class EncoderRun:
    """A run: objective, optimiser, losses. A step's draws follow from seed and step alone.

    Args:
        task: its graph is read, its labels are not. A graph task shows random graphs of all parts.
        model: the encoder.
        config: the objective, and how it is trained.
        seed: of weights and draws.
        file: of a state that `keep` wrote, to continue from where it is there.
    """

    def __init__(self, task: Task, model: ProbeConfig, config: PretextConfig, seed: int, file: Path) -> None:
        self.task, self.model, self.config, self.seed = task, model, config, seed
        torch.manual_seed(seed)
        self.objective = objective(config, model, task.graph.x.size(1), task.edge_width).train()
        trained = [value for value in self.objective.parameters() if value.requires_grad]
        self.optimiser = torch.optim.Adam(
            trained,
            config.lr,
            weight_decay=config.weight_decay,
            decoupled_weight_decay=config.decoupled,
            fused=True,
        )
        self.losses: list[float] = []
        self.seconds = 0.0
        if file.is_file():
            state = load_state(file)
            self.objective.load_state_dict(state["objective"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.losses, self.seconds = state["losses"], state["seconds"]

    def shown(self, graphs: int) -> Data:
        """The whole graph, or so many random graphs of a graph task; what is drawn next follows from the step, too."""
        torch.manual_seed(int(np.random.SeedSequence((self.seed, len(self.losses))).generate_state(1)[0]))
        if self.task.kind != "graph":
            return self.task.graph
        return union_of_graphs(self.task.graph, torch.randperm(self.task.instances)[:graphs])

    def step(self) -> float:
        """Take the next step; returns its loss and writes it down.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        number = len(self.losses)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number, self.config)
        loss = self.objective(self.shown(self.config.batch_size))
        if not loss.isfinite():
            where = f"{self.task.name}, {self.config.objective}, step {number}"
            raise FloatingPointError(f"{where}: loss {loss.item():g}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if isinstance(self.objective, Bootstrap):
            self.objective.follow(number / self.config.steps)
        self.losses.append(loss.item())
        return self.losses[-1]

    @torch.no_grad()
    def finished(self) -> GraphEncoder:
        """The encoder in evaluation mode, standardised on the whole graph, or on some graphs of a graph task."""
        encoder, graph = self.objective.encoder.eval(), self.shown(EVALUATION_BATCH)
        x = network_input(graph, self.task.edge_width)
        encoder.standardise(encoder(x, adjacency(self.model.encoder, graph, x.dtype)))
        return encoder

    def keep(self, file: Path) -> None:
        """Save the state, atomically."""
        state = {"objective": dict(self.objective.state_dict()), "optimiser": self.optimiser.state_dict()}
        save_state(file, state | {"losses": self.losses, "seconds": self.seconds})


def encoder_folder(task: Task, model: ProbeConfig, config: PretextConfig, seed: int, root: Path) -> Path:
    """Where a trained encoder is or will be."""
    encoder = {name: value for name, value in dataclasses.asdict(model).items() if name not in OF_THE_HEAD}
    key = run_key({"encoder": encoder, "pretext": dataclasses.asdict(config)}, "", task.checksum)
    return root / f"{task.name}-{config.objective}-{key}" / f"seed-{seed}"


def train_encoder(
    task: Task, model: ProbeConfig, config: PretextConfig, seed: int, root: Path, quiet: bool = False
) -> Path:
    """Train an encoder, or continue a killed run, or do nothing where the run is finished; returns its folder.

    One that another process is at is waited for.

    Args:
        task, model, config, seed: see `EncoderRun`.
        root: folder of all encoders.
        quiet: whether to show no progress.
    """
    folder = encoder_folder(task, model, config, seed, root)
    if not (folder / "model.json").is_file():
        with held(folder):
            if not (folder / "model.json").is_file():
                _train(task, model, config, seed, folder, quiet)
    return folder


def _train(task: Task, model: ProbeConfig, config: PretextConfig, seed: int, folder: Path, quiet: bool) -> None:
    """Train an encoder into its folder, from its last state if there is one; see `train_encoder`."""
    state_file = folder / "training.safetensors"
    run = EncoderRun(task, model, config, seed, state_file)
    since_state = since = time.monotonic()
    bar = tqdm(
        total=config.steps,
        initial=len(run.losses),
        desc=f"{task.name} {config.objective} seed {seed}",
        leave=False,
        disable=quiet,
    )
    while len(run.losses) < config.steps:
        bar.set_postfix(loss=f"{run.step():.3g}")
        bar.update()
        now = time.monotonic()
        run.seconds += now - since
        since = now
        if now - since_state > SECONDS_BETWEEN_STATES:
            run.keep(state_file)
            since_state = now
    bar.close()
    with write_atomically(folder / "losses.csv") as temporary:
        pd.DataFrame({"loss": run.losses}).rename_axis("step").to_csv(temporary)
    about = {"task": task.name, "seed": seed, "seconds": run.seconds, "data_checksum": task.checksum}
    settings = {"format": FORMAT, "encoder": dataclasses.asdict(model), "pretext": dataclasses.asdict(config)}
    write_weights(run.finished(), settings | about, folder)
    state_file.unlink(missing_ok=True)


def start_from_encoder(
    model: Probe, task: Task, config: PretextConfig, seed: int, root: Path, quiet: bool = False
) -> float:
    """Give a probe its trained encoder, trained first if it is not; returns the seconds that its training took.

    Args:
        model: whose encoder is replaced.
        task, config, seed, root, quiet: see `train_encoder`.

    Raises:
        ValueError: the encoder's files are damaged.
    """
    settings, weights = read_settings(train_encoder(task, model.config, config, seed, root, quiet), FORMAT)
    model.encoder.load_state_dict(load_file(weights))
    return settings["seconds"]
