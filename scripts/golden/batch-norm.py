"""Golden cases of batchNorm in f64, by PyTorch: results, gradients towards operand, weight and bias, and what a batch leaves
in the running statistics. PyTorch has no mask: a masked case is the same over the positions that are left, put back
where they were. It has no biased running variance either: that one is its update rule with its own biased variance.
"""

import numpy
import torch
import torch.nn.functional as F

from golden import case, generator, integers, uniform, write

SEED = 89
rng = generator(SEED)
cases = []

SHAPES = ((4, 3), (3, 2, 5), (2, 3, 2, 3), (2, 2, 2, 3, 2))


def affine(channels):
    return {"weight": uniform(rng, (channels,), -2, 2), "bias": uniform(rng, (channels,), -2, 2)}


def running(channels):
    return {"runningMean": uniform(rng, (channels,), -1, 1), "runningVar": uniform(rng, (channels,), 0.5, 2)}


def run(title, inputs, options, last=False):
    """Adds a case; with `last`, channels are the last axis. What changes running statistics is a `call` of its own."""
    leaves = {name: torch.tensor(inputs[name], requires_grad=True) for name in ("x", "weight", "bias") if name in inputs}
    mean, var = (torch.tensor(inputs[name]) if name in inputs else None for name in ("runningMean", "runningVar"))
    momentum, eps = options.get("momentum", 0.1), options.get("eps", 1e-5)
    training = options.get("training", False)
    x, weight, bias = (leaves.get(name) for name in ("x", "weight", "bias"))
    if last:
        x = x.movedim(-1, 1)
    rows = x.movedim(1, -1)
    if "mask" in inputs:
        chosen = torch.tensor(inputs["mask"])
        y = torch.zeros_like(rows)
        y[chosen] = F.batch_norm(rows[chosen], mean, var, weight, bias, training, momentum, eps)
        y = y.movedim(-1, 1)
    else:
        y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    if last:
        y = y.movedim(1, -1)
    upstream = uniform(rng, tuple(y.shape), -1, 1)
    (y * torch.tensor(upstream)).sum().backward()
    if options.get("estimate") == "biased":
        spread = rows.detach().reshape(-1, rows.shape[-1]).var(0, unbiased=False)
        var = (1 - momentum) * torch.tensor(inputs["runningVar"]) + momentum * spread
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    outputs, call = {"y": y}, "batchNorm"
    if training and mean is not None:
        outputs, call = {**outputs, "runningMean": mean, "runningVar": var}, "running"
    cases.append(case(f"batchNorm {title}", call, inputs, outputs, options, {"y": upstream}, gradients))


for shape in SHAPES:
    channels = shape[1]
    x = lambda: {"x": uniform(rng, shape, -1, 3)}
    name = f"of {list(shape)}"
    run(f"{name} by the batch", {**x(), **affine(channels)}, {"training": True})
    run(f"{name} by the batch, plain, eps", x(), {"training": True, "eps": 0.25})
    for estimate in ("unbiased", "biased"):
        options = {"training": True, "momentum": 0.25, "estimate": estimate}
        run(f"{name} by the batch, {estimate} running", {**x(), **affine(channels), **running(channels)}, options)
    run(f"{name} by running statistics", {**x(), **affine(channels), **running(channels)}, {})
    run(f"{name} by running statistics, plain, eps", {**x(), **running(channels)}, {"eps": 0.25})
    mask = integers(rng, (shape[0], *shape[2:]), 3) > 0
    mask.flat[:2] = True
    hidden = x()
    # Whatever stands there: no number may come of it.
    numpy.moveaxis(hidden["x"], 1, -1)[~mask] = float("nan") if len(shape) < 3 else 1024
    for training in (True, False):
        options = {"training": training, **({"momentum": 0.5} if training else {})}
        by = "the batch" if training else "running statistics"
        run(f"{name} by {by}, masked", {**hidden, **affine(channels), **running(channels), "mask": mask}, options)

shape = (2, 3, 2, 4)
name = f"of {list(shape)}, channels last"
run(f"{name}, by the batch", {"x": uniform(rng, shape), **affine(4), **running(4)}, {"training": True, "axis": -1}, True)
run(f"{name}, by running statistics", {"x": uniform(rng, shape), **affine(4), **running(4)}, {"axis": -1}, True)
mask = integers(rng, shape[:-1], 2) > 0
mask.flat[:2] = True
inputs = {"x": uniform(rng, shape), **affine(4), **running(4), "mask": mask}
run(f"{name}, by the batch, masked", inputs, {"training": True, "axis": -1}, True)

# Layers over several batches: running statistics from their start, then evaluation by them.
for momentum in (0.1, 0.5, None):
    for track in (True, False) if momentum == 0.1 else (True,):
        for shape in SHAPES:
            channels = shape[1]
            layer = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
            layer = layer[len(shape)](channels, momentum=momentum, track_running_stats=track).double()
            batches = {f"x{i}": uniform(rng, (shape[0] + i, *shape[1:]), -1 + i, 3) for i in range(3)}
            outputs = {f"y{i}": layer(torch.tensor(x)) for i, x in enumerate(batches.values())}
            layer.eval()
            outputs["evaluated"] = layer(torch.tensor(batches["x0"]))
            if track:
                state = {"mean": layer.running_mean, "var": layer.running_var}
                outputs = {**outputs, **state, "batches": layer.num_batches_tracked.reshape(1).int()}
            options = {"channels": channels, "momentum": momentum, "trackRunningStats": track}
            title = f"BatchNorm of three {list(shape)}, momentum {momentum}{'' if track else ', untracked'}"
            cases.append(case(title, "layer", batches, outputs, options))

write("batch-norm", SEED, cases, torch=torch.__version__)
