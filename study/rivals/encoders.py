"""Training an encoder without labels on a task's own graph: interruptible, and shared by all runs that start from it.

It leaves in `<root>/<task>-<objective>-<key>/seed-<s>/`: `losses.csv` (a row per step), the encoder's weights, and
their settings, written last. Neither the split nor labels nor the head's training play a part in it, so that every
split and every setting of the head reads the same encoder.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim.lr_scheduler import LambdaLR

from stemlib.baselines.networks import adjacency, network_input
from stemlib.cache import run_key
from stemlib.data.batches import union_of_graphs
from stemlib.data.graph import Graph
from stemlib.data.tasks import Task
from stemlib.files import held, write_atomically
from stemlib.training.evaluation import EVALUATION_BATCH
from stemlib.training.loop import Loop, State, cosine
from stemlib.weights import read_settings, read_weights, write_weights
from study.computing import chosen
from study.rivals.probe import GraphEncoder, Probe
from study.rivals.self_supervised import Bootstrap, objective
from study.rivals.settings import PretextConfig, ProbeConfig

FORMAT = "stem-gnn-study self-supervised encoder, version 1"
OF_THE_HEAD = ("embedding_norm", "dropout", "pool")  # settings that the encoder does not know


def learning_rate(step: int, config: PretextConfig) -> float:
    """The rate of a step, counted from 0: it rises over the warm-up, then stays or falls along a cosine to 0."""
    rise = config.warmup * config.steps
    if step < rise:
        return config.lr * min(1.0, (step + 1) / rise)
    if config.schedule == "constant":
        return config.lr
    return config.lr * cosine(step - rise, max(1.0, config.steps - rise))


@dataclasses.dataclass
class Curve(State):
    """The losses of all steps taken."""

    losses: list[float] = dataclasses.field(default_factory=list)


class EncoderRun:
    """A run: objective, optimiser, curve, and the loop that keeps them. A step's draws follow from seed and step alone.

    Args:
        task: its graph is read, its labels are not. A graph task shows random graphs of all parts.
        model: the encoder.
        config: the objective, and how it is trained.
        seed: of weights and draws.
        file: of the state.
    """

    def __init__(self, task: Task, model: ProbeConfig, config: PretextConfig, seed: int, file: Path) -> None:
        self.task, self.model, self.config, self.seed = task, model, config, seed
        torch.manual_seed(seed)
        self.objective = objective(config, model, task.graph.x.size(1), task.edge_width).to(chosen()).train()
        trained = [value for value in self.objective.parameters() if value.requires_grad]
        decay = {"weight_decay": config.weight_decay, "decoupled_weight_decay": config.decoupled}
        self.optimiser = torch.optim.Adam(trained, 1.0, **decay, fused=True)  # times the rate, to the bit
        self.schedule = LambdaLR(self.optimiser, lambda step: learning_rate(step, config))
        self.curve = Curve()
        self.loop = Loop(
            file, objective=self.objective, optimiser=self.optimiser, schedule=self.schedule, curve=self.curve
        )

    def shown(self, graphs: int) -> Graph:
        """The whole graph, or that many random ones of a graph task; what is drawn next also follows from the step."""
        torch.manual_seed(int(np.random.SeedSequence((self.seed, len(self.curve.losses))).generate_state(1)[0]))
        if self.task.kind != "graph":
            return self.task.graph.on(chosen())
        return union_of_graphs(self.task.graph, torch.randperm(self.task.instances)[:graphs]).on(chosen())

    def step(self) -> float:
        """Take the next step, write down its loss and return it.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        number = len(self.curve.losses)
        loss = self.objective(self.shown(self.config.batch_size))
        if not loss.isfinite():
            where = f"{self.task.name}, {self.config.objective}, step {number}"
            raise FloatingPointError(f"{where}: loss {loss.item():g}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        if isinstance(self.objective, Bootstrap):
            self.objective.follow(number / self.config.steps)
        self.curve.losses.append(loss.item())
        return loss.item()

    @torch.no_grad()
    def finished(self) -> GraphEncoder:
        """The encoder in evaluation mode, standardised on the whole graph, or on some graphs of a graph task."""
        encoder, graph = self.objective.encoder.eval(), self.shown(EVALUATION_BATCH)
        x = network_input(graph, self.task.edge_width)
        encoder.standardise(encoder(x, adjacency(self.model.encoder, graph, x.dtype)))
        return encoder


def encoder_folder(task: Task, model: ProbeConfig, config: PretextConfig, seed: int, root: Path) -> Path:
    """Where a trained encoder is or will be."""
    encoder = {name: value for name, value in dataclasses.asdict(model).items() if name not in OF_THE_HEAD}
    key = run_key({"encoder": encoder, "pretext": dataclasses.asdict(config)}, "", task.graph.content, chosen().type)
    return root / f"{task.name}-{config.objective}-{key}" / f"seed-{seed}"


def train_encoder(task: Task, model: ProbeConfig, config: PretextConfig, seed: int, root: Path) -> Path:
    """Train an encoder, or continue a killed run, or do nothing if the run is finished; returns its folder.

    If another process is training it, wait for that to end.

    Args:
        task, model, config, seed: see `EncoderRun`.
        root: folder of all encoders.

    Raises:
        ValueError: the state of a killed run is damaged.
    """
    folder = encoder_folder(task, model, config, seed, root)
    settings_file, state_file = folder / "model.json", folder / "training.checked"
    if settings_file.is_file():
        return folder
    with held(folder):
        if settings_file.is_file():  # by the process that was waited for
            return folder
        run = EncoderRun(task, model, config, seed, state_file)
        losses = run.curve.losses
        for bar in run.loop.steps(len(losses), config.steps, f"{task.name} {config.objective} seed {seed}"):
            bar.set_postfix(loss=f"{run.step():.3g}", refresh=False)
        with write_atomically(folder / "losses.csv") as temporary:
            pd.DataFrame({"loss": losses}).rename_axis("step").to_csv(temporary)
        about = {"task": task.name, "seed": seed, "seconds": run.loop.seconds, "data_checksum": task.checksum}
        settings = {"format": FORMAT, "encoder": dataclasses.asdict(model), "pretext": dataclasses.asdict(config)}
        write_weights(run.finished(), settings | about, folder)
        state_file.unlink(missing_ok=True)
    return folder


def start_from_encoder(model: Probe, task: Task, config: PretextConfig, seed: int, root: Path) -> float:
    """Give a probe its encoder, trained first if necessary; returns the seconds that the training took.

    Args:
        model: whose encoder gets the weights.
        task, config, seed, root: see `train_encoder`.

    Raises:
        ValueError: the encoder's files are damaged.
    """
    folder = train_encoder(task, model.config, config, seed, root)
    read_weights(folder, FORMAT, lambda _: model.encoder)
    return read_settings(folder, FORMAT)["seconds"]
