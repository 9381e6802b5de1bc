"""Fine-tuning: one loop for node, link and graph tasks, interruptible at any point.

AdamW, early stopping on validation, best validation state restored.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from stemlib.data.batches import Batch, batches
from stemlib.data.scores import score
from stemlib.data.tasks import Split, Task, split_problems, standardised
from stemlib.devices import device_of, generators
from stemlib.model.losses import task_loss
from stemlib.model.network import require_fit
from stemlib.model.stem import StemGNN
from stemlib.presets import TrainConfig
from stemlib.stress.views import drop_edges
from stemlib.training.consistency import Consistency
from stemlib.training.epochs import Epochs, every_epoch
from stemlib.training.evaluation import EVALUATION_BATCH, answers_there, evaluation_batches, finite, hops, products_in
from stemlib.training.loop import Loop, State
from stemlib.training.replay import Replays
from stemlib.training.shared_products import share_first_products
from stemlib.training.terms import TERMS, require_term

START_INSTANCES = 20_000  # that the codebooks are started on: at least 150 per code


@dataclasses.dataclass
class Fit(State):
    """The state of one training: everything that a resumed process needs besides model and optimiser."""

    epoch: int = 0
    best_epoch: int = -1
    best: tuple[float, float] = (float("-inf"), float("-inf"))  # validation score, then minus its loss
    test_best: float = float("-inf")
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)  # of the best epoch


def fit(
    model: nn.Module,
    task: Task,
    split: Split,
    train: TrainConfig,
    seed: int,
    state_file: Path | None = None,
    label: str = "",
) -> Fit:
    """Train `model` in place and leave it in its best validation state, in evaluation mode.

    Args:
        model: a `StemGNN`, or one of the baselines.
        task: what to learn; a regression is learnt as `standardised` by the split, and answered in its own unit.
        split: on which instances; selection sees `val` only.
        train: how.
        seed: of noise and batches.
        state_file: where the training state is kept while running; a state found there is continued.
        label: of the progress bar.

    Raises:
        ValueError: a task of another shape, a split that it cannot use, a setting of `train` that this model or task
            does not have, or a damaged state.
    """
    if train.precision == "bf16" and not isinstance(model, StemGNN):
        raise ValueError(f"precision='bf16' is for a StemGNN's encoder; train {type(model).__name__} in float32")
    require_fit(model, task)
    require_term(model, train)
    if found := split_problems(task, split):
        raise ValueError("\n  - ".join([f"{task.name!r} cannot be learnt on this split:", *found]))
    if task.regression:
        task = standardised(task, split) if task.scale is None else task
        model.unit.copy_(task.scale)
    torch.manual_seed(seed)
    shuffle = torch.Generator().manual_seed(seed)
    if train.prior:
        model.start_at_prior(task.labels[split.train], task.regression)
    if isinstance(model, StemGNN) and model.tokens:
        start_tokens(model, task, split)
        if train.freeze_tokens:
            model.tokens.freeze()
    trained = [value for value in model.parameters() if value.requires_grad]
    where = device_of(model)
    rates = {"lr": train.lr, "weight_decay": train.weight_decay}
    optimiser = torch.optim.AdamW(trained, **rates, fused=True, capturable=where.type == "cuda")
    progress = Fit()
    parts = {"model": model, "optimiser": optimiser, "shuffle": shuffle} | generators(where)
    taught = Consistency(task, split, train) if train.consistency else None
    loop = Loop(state_file, progress=progress, **parts | ({"taught": taught} if taught else {}))
    train_batches = training_batches(model, task, split, train, taught)
    asked = [split.val, split.test, *([taught.others] if taught else [])]
    check_batches = evaluation_batches(model, task, torch.cat(asked))
    whole_steps = not (train.batch_size or train.fanout or train.routing or train.edge_dropout)
    shared = None
    if hops(model, task) and whole_steps and train.precision != "bf16":
        whole = [batch.graph for shown in (train_batches, check_batches) for batch in shown(None)]
        shared = share_first_products(model.encoder, task.graph, whole)
    replays = Replays(where, same=not train.batch_size and not train.fanout and train.passes == 1)
    for bar in loop.steps(progress.epoch, train.epochs, label):
        if progress.epoch - progress.best_epoch > train.patience:
            break
        fixed = progress.epoch >= train.router_share * train.epochs
        losses = []
        for _ in range(train.passes):
            shown = train_batches(shuffle)
            epoch = partial(train_epoch, model, shown, train, optimiser, task.regression, fixed, taught)
            steps = replays(("train", fixed, bool(taught and taught.weight)), epoch)
            losses += finite(steps, "training").tolist()
            if shared:
                shared.forget()
        evaluation = partial(answers_there, model, check_batches(None), train.precision, True)
        answers = finite(replays("evaluate", evaluation).cpu(), task.name)
        logits = model.settled(answers, task.labels[split.val], task.regression)
        if taught:
            taught.note(logits)
        _note_epoch(progress, model, task, split, logits, sum(losses) / len(losses))
        bar.set_postfix(val=f"{progress.history[-1]['val']:.3f}", best=f"{progress.best[0]:.3f}", refresh=False)
    progress.seconds = loop.seconds
    model.load_state_dict(progress.weights)
    model.eval()
    return progress


def training_batches(
    model: nn.Module, task: Task, split: Split, train: TrainConfig, taught: Consistency | None = None
) -> Epochs:
    """The training instances, and those that are `taught` without labels, with what a step of `model` reads.

    Raises:
        ValueError: neighbours are to be drawn for a model or a regulariser that needs all nodes.
    """
    require_fit(model, task)
    # The routing regulariser is a mean over all nodes of the graph, so no step can do with only some of them.
    reach = 0 if train.routing else hops(model, task)
    as_one = bool(train.fanout and not reach)
    if as_one and (task.kind == "graph" or taught or isinstance(model, StemGNN)):
        raise ValueError(
            f"fanout={train.fanout}: neighbours can be drawn only for node and link tasks without consistency, with "
            "baselines, mixtures, or a StemGNN trained with routing=0 whose layers average over neighbours without "
            "batch norm; set fanout=0"
        )
    if taught:
        return taught.shown(task, reach, device_of(model))
    fanouts = (train.fanout or None,) * (model.config.layers if as_one else reach)
    shown = {"fanouts": fanouts, "as_one": as_one, "hide": True, "device": device_of(model)}
    return every_epoch(task, split.train, train.batch_size, **shown)


def train_epoch(
    model: nn.Module,
    shown: Iterable[Batch],
    train: TrainConfig,
    optimiser: torch.optim.Optimizer,
    regression: bool = False,
    fixed_routers: bool = False,
    taught: Consistency | None = None,
) -> Tensor:
    """One pass over the training instances, of classes or a `regression`; the losses `[S]` of its steps.

    A loss includes that of instances that are `taught`. Nothing here waits for a GPU that holds the batches.
    With `fixed_routers` the routers stay as they are: they take no step and learn nothing in passing.
    """
    model.train()
    for router in model.encoder.routers if fixed_routers else ():
        # A router without weights learns in passing, in training mode only; others are to keep their noise.
        router.train(bool(list(router.parameters())))
    losses = []
    for batch in shown:
        if train.edge_dropout:
            batch = batch._replace(graph=drop_edges(batch.graph, train.edge_dropout))
        with products_in(train.precision, batch):
            output = model(batch.graph, batch.instances)
        loss = model.loss(output, batch.labels, regression) + model.penalty(output, train)
        if taught and taught.weight:
            loss = loss + taught.loss(output, batch)
        if train.term != "none" and train.term_weight:
            loss = loss + train.term_weight * TERMS[train.term](model, batch, output, train)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if fixed_routers:  # a parameter without gradient is left alone, by weight decay too
            model.encoder.routers.zero_grad(set_to_none=True)
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def start_tokens(model: StemGNN, task: Task, split: Split) -> None:
    """K-means start of the codebooks: on all nodes, but on training instances of other tasks and the reference's kind.

    Only features are seen, no label; on one graph all of them are visible to training anyway. Of more than
    `START_INSTANCES` (graphs: `EVALUATION_BATCH`), that many are drawn.
    """
    of_training = model.config.codebook == "reference" or task.kind != "node"
    index = split.train if of_training else torch.arange(task.instances)
    limit = EVALUATION_BATCH if task.kind == "graph" else START_INSTANCES
    if index.numel() > limit:
        index = index[torch.randperm(index.numel())[:limit]]
    (batch,) = batches(task, index, fanouts=(None,) * hops(model, task))
    batch = batch.to(device_of(model))
    model.start_tokens(batch.graph, batch.instances)


def _note_epoch(progress: Fit, model: nn.Module, task: Task, split: Split, logits: Tensor, loss: float) -> None:
    """Score an evaluation's logits (validation's, then test's), and keep the weights when validation says so."""
    val, test, _ = logits.tensor_split([split.val.numel(), split.val.numel() + split.test.numel()])
    val_labels, test_labels = task.labels[split.val], task.labels[split.test]
    val_loss = task_loss(val, val_labels, regression=task.regression).item()
    scores = {"val": score(val, val_labels, task.regression), "test": score(test, test_labels, task.regression)}
    row = {"epoch": progress.epoch, "loss": loss, "val_loss": val_loss} | scores
    progress.test_best = max(progress.test_best, row["test"])
    # Small validation sets tie often; the smaller validation loss decides among equals.
    if (row["val"], -val_loss) > progress.best:
        progress.best, progress.best_epoch = (row["val"], -val_loss), progress.epoch
        progress.weights = copy.deepcopy(model.state_dict())
    progress.history.append(row)
    progress.epoch += 1
