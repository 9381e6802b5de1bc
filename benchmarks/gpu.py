"""What a GPU gives: one script of some six minutes that needs the repository, PyTorch and PyG, and no data.

    python benchmarks/gpu.py [--tiny] [--device auto] [--minutes 6] [--cases cora-768 arxiv-768 ...]

For Cora's, PubMed's and ogbn-arxiv's size, 128 and 768 wide, on the graphs of `speed.py`:

- **parity**: logits on the device against the CPU's, relative; and whether two trainings from one seed end alike.
- **speed**: a training step and an evaluation, by the authors' algorithm and by ours; shares of the best product and of
  the best copy on that device. Bytes are those that single operations read and write.
- **forms of our step**: `eager`, `compile` (torch.compile), `graph` (a CUDA graph), `bf16` (of the encoder's products).
- **training**: an epoch of `fit`, evaluation and bookkeeping included, as it is, and with its operations started one by
  one (`ordinary_s`); for the smallest size also for every network that is compared.
- **pretraining**: a step of the reference's size.

Rows are printed as they come and kept in `benchmarks/gpu.csv` with the device's name. What fails leaves its message.
`--tiny` takes small graphs, so that the script can be tried without a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from measuring import Row, bandwidth, flops, matrix_peak, synchronised, traffic
from reference_algorithm import ReferenceAlgorithm
from speed import CASES, CLASSES, Case, task_of
from torch import Tensor, nn

from stemlib.data.batches import Batch
from stemlib.data.built_in import built_in
from stemlib.data.features import unit_features
from stemlib.data.tasks import PARTS, Split, Task
from stemlib.devices import DEVICES, device
from stemlib.model.losses import task_loss
from stemlib.presets import BaselineConfig, MixtureConfig, ModelConfig, PretrainConfig, TrainConfig, change, preset
from stemlib.training import replay
from stemlib.training.evaluation import answer, evaluation_batches, predict, products_in
from stemlib.training.finetune import fit, start_tokens, training_batches
from stemlib.training.pool import Member, Pool
from stemlib.training.pretrain_run import Run
from study.families import build
from study.interrupt import ANEW, interruptible
from study.methods import reference

ALL = CASES | {"arxiv-768": Case(169_343, 13.7, 768, "half")}
TINY = {"tiny-16": Case(900, 4, 16, "few"), "tiny-16-half": Case(300, 4, 16, "half")}
FORMS = ("eager", "compile", "graph", "bf16")
WARM, REPEATS = 3, 10
EPOCHS = 40  # of a whole training
NETWORKS = {
    "mixture": MixtureConfig(),
    "stem": ModelConfig(codes=16),
    **{
        kind: BaselineConfig(kind)
        for kind in ("mlp", "gcn", "sage", "gat", "gin", "appnp", "gcnii", "acm", "softmedian")
    },
}


def prepared(case: Case, where: torch.device) -> tuple[Task, Split, nn.Module, torch.optim.Optimizer]:
    """The graph, its split, a model in the reference's form on the device, and its optimiser."""
    task, split = task_of(case)
    torch.manual_seed(0)
    model = build(reference(change(preset("paper"), hidden=case.width)).model, task).to(where)
    start_tokens(model, task, split)
    model.tokens.freeze()
    trained = [value for value in model.parameters() if value.requires_grad]
    return task, split, model, torch.optim.AdamW(trained, fused=True, capturable=where.type == "cuda")


def seconds(action: Callable[[], object], where: torch.device) -> float:
    """Median seconds of an action, until the device has finished it."""
    for _ in range(WARM):
        action()
    taken = []
    for _ in range(REPEATS):
        start = synchronised(where)
        action()
        taken.append(synchronised(where) - start)
    return statistics.median(taken)


def stepping(model: nn.Module, batch: Batch, optimiser: torch.optim.Optimizer, form: str) -> Callable[[], object]:
    """A training step in one of `FORMS`; none of them looks at the loss."""
    precision, forward = ("bf16" if form == "bf16" else "float32"), model
    if form == "compile":
        forward = torch.compile(model)

    def step() -> Tensor:
        model.train()
        with products_in(precision, batch):
            logits = forward(batch.graph, batch.instances).logits
        optimiser.zero_grad(set_to_none=form != "graph")
        loss = task_loss(logits, batch.labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    if form != "graph":
        return step
    if batch.labels.device.type != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    for _ in range(WARM):
        replay.beside(step)
    return replay.recorded(step)


def alike(case: Case, where: torch.device) -> bool:
    """Whether three steps from one seed give the same bits twice."""
    ends = []
    for _ in range(2):
        task, split, model, optimiser = prepared(case, where)
        (batch,) = training_batches(model, task, split, TrainConfig())(None)
        step = stepping(model, batch, optimiser, "eager")
        for _ in range(3):
            step()
        ends.append([value.cpu() for value in model.state_dict().values()])
    return all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def trainings(name: str, config: ModelConfig | BaselineConfig | MixtureConfig, case: Case, where: torch.device) -> Row:
    """Seconds per epoch of `fit` with and without recorded steps, and whether both end with the same bits."""
    task, split = task_of(case)
    train = TrainConfig(epochs=EPOCHS, patience=EPOCHS, consistency=float(isinstance(config, MixtureConfig)))
    row, ends = {"case": name, "form": "fit"}, []
    able = replay.recordable
    for form, allowed in (("train_s", able), ("ordinary_s", lambda where: False)):
        replay.recordable = allowed
        try:
            torch.manual_seed(0)
            model = build(config, task).to(where)
            done = fit(model, task, split, train, 0)
        finally:
            replay.recordable = able
        row[form] = done.seconds / len(done.history)
        ends.append([value.cpu() for value in model.state_dict().values()])
    return row | {"same_bits": all(torch.equal(one, other) for one, other in zip(*ends, strict=True))}


def rows_of(name: str, case: Case, where: torch.device, peaks: dict[str, float]) -> Iterator[Row]:
    """All rows of one size."""
    task, split, model, optimiser = prepared(case, where)
    on_cpu = build(model.config, task).cpu()
    on_cpu.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
    expected = predict(on_cpu, task)
    apart = (predict(model, task) - expected).abs().max(1).values / expected.abs().max()
    ties = torch.quantile(apart[: 2**20], 0.999).item()  # either of two nearly tied codes may win
    yield {"case": name, "form": "parity", "difference": ties, "same_bits": alike(case, where)}
    moved = replace(task, graph=task.graph.on(where), labels=task.labels.to(where))
    there = replace(split, **{part: getattr(split, part).to(where) for part in PARTS})
    theirs = ReferenceAlgorithm(model, moved, there, optimiser)
    asked = evaluation_batches(model, task, torch.cat([split.val, split.test]))(None)
    (batch,) = training_batches(model, task, split, TrainConfig())(None)
    for form in ("reference", *FORMS):
        row: Row = {"case": name, "form": form}
        try:
            train = theirs.train_step if form == "reference" else stepping(model, batch, optimiser, form)
            row["train_s"] = seconds(train, where)
            evaluations = {"reference": theirs.evaluate, "eager": lambda: answer(model, asked, name)}
            actions = {"train": train} if form in ("reference", "eager") else {}
            if form in evaluations:
                row["evaluate_s"] = seconds(evaluations[form], where)
                actions["evaluate"] = evaluations[form]
            for what, action in actions.items():
                row[f"{what}_peak_share"] = flops(action) / row[f"{what}_s"] / peaks["gflops"]
                row[f"{what}_band_share"] = traffic(action) / row[f"{what}_s"] / peaks["gbs"]
        except Exception as error:  # what a form cannot do is a result
            row["error"] = told(error)
        yield row
    yield trainings(name, model.config, case, where)


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def pretraining(where: torch.device, width: int, nodes: int) -> Row:
    """A step of pretraining with all objectives, 1,024 seeds."""
    task = built_in(nodes, classes=CLASSES, degree=4, noise_features=width - CLASSES)
    model = reference(change(preset("paper"), hidden=width)).model
    pool = Pool([Member(unit_features(task, width), 1.0)])
    run = Run(pool, model, PretrainConfig(steps=1000), 0, where, Path("no state"))
    row: Row = {"case": f"pretraining-{width}", "form": "eager", "train_s": seconds(run.step, where)}
    run.checked()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small graphs, nothing is kept")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--minutes", type=float, default=6.0, help="after which no further size is begun")
    parser.add_argument("--cases", nargs="+", choices=ALL, default=list(ALL), metavar="CASE", help=", ".join(ALL))
    options = parser.parse_args()
    began, where = time.monotonic(), device(options.device)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    size = 256 if options.tiny else 4096
    peaks = {"gflops": matrix_peak(size, device=where), "gbs": bandwidth(size // 8, device=where)}
    peaks["bf16_gflops"] = matrix_peak(size, device=where, dtype=torch.bfloat16)
    print(f"{card}, torch {torch.__version__}, " + ", ".join(f"{key} {value:.4g}" for key, value in peaks.items()))
    found: list[Row] = []

    def keep(row: Row) -> None:
        found.append(row | {"device": card, "torch": torch.__version__})
        print({key: value for key, value in row.items()}, flush=True)
        if not options.tiny:
            pd.DataFrame(found).to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4g")

    keep({"case": "peaks", "form": "eager"} | peaks)
    keep(pretraining(where, *((16, 300) if options.tiny else (768, 2708))))
    for name, case in (TINY if options.tiny else {name: ALL[name] for name in options.cases}).items():
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{name} and what follows: not begun after {options.minutes:g} minutes")
            break
        try:
            for row in rows_of(name, case, where, peaks):
                keep(row)
        except Exception as error:
            keep({"case": name, "error": told(error)})
    name, width = ("tiny-16", 16) if options.tiny else ("cora-128", 128)
    for network, config in NETWORKS.items():
        try:
            sized = change(config, hidden=width)
            keep(trainings(f"{name}, {network}", sized, (ALL | TINY)[name], where))
        except Exception as error:
            keep({"case": f"{name}, {network}", "error": told(error)})


if __name__ == "__main__":
    sys.exit(interruptible(main, ANEW))
