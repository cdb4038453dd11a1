"""Golden cases of the losses, from torch.nn.functional in f64: values, and gradients towards the predictions.

PyTorch has no masks: there, what a masked mean is follows from the losses of single items.
"""

import numpy
import torch
import torch.nn.functional as F

from golden import case, generator, integers, uniform, write

SEED = 6
rng = generator(SEED)
cases = []


def run(title, call, inputs, wanted, fn, options=None):
    """Adds a case: `fn` of the inputs as tensors gives the loss; `wanted` names the inputs that get a gradient."""
    kinds = {"f": torch.float64, "i": torch.int64, "b": torch.bool}
    leaves = {name: torch.tensor(x, dtype=kinds[x.dtype.kind]) for name, x in inputs.items()}
    for name in wanted:
        leaves[name].requires_grad_(True)
    loss = fn(**leaves)
    upstream = uniform(rng, tuple(loss.shape), 0.5, 1.5)
    (loss * torch.tensor(upstream)).sum().backward()
    slopes = {name: leaves[name].grad for name in wanted}
    cases.append(case(title, call, inputs, {"loss": loss}, options, {"loss": upstream}, slopes))


def last_axis(loss):
    """A loss of scores with classes in the second place, for scores that have them in the last."""
    return lambda scores, *rest, **options: loss(scores.movedim(-1, 1), *rest, **options)


TORCH_NAMES = {"ignoreIndex": "ignore_index", "labelSmoothing": "label_smoothing"}


def of_classes(title, call, loss, scores, targets, reduction, weight=None, mask=None, **options):
    """A loss with class indices. A mask turns its items off or weighs them, as the mean of PyTorch's single losses."""
    given = {TORCH_NAMES[name]: value for name, value in options.items()}
    ignored = options.get("ignoreIndex", -100)

    def fn(scores, targets, weight=None, mask=None):
        if mask is None:
            return last_axis(loss)(scores, targets, weight=weight, reduction=reduction, **given)
        items = last_axis(loss)(scores, targets, weight=weight, reduction="none", **given)
        factors = mask.to(torch.float64)
        if reduction == "none":
            return items * factors
        active = targets != ignored
        heavy = torch.ones(scores.shape[-1], dtype=torch.float64) if weight is None else weight
        count = (active * factors * heavy[torch.where(active, targets, 0)]).sum()
        return (items * factors).sum() / (count if reduction == "mean" else 1)

    inputs = {"scores": scores, "targets": targets}
    if weight is not None:
        inputs["weight"] = weight
    if mask is not None:
        inputs["mask"] = mask
    run(f"{call} of {title}, {reduction}", call, inputs, ["scores"], fn, {"reduction": reduction, **options})


def of_numbers(title, call, loss, reduction, low, high, options=None, mask=None, **given):
    """A loss of predictions and targets of one shape."""
    prediction, target = uniform(rng, (4, 3)), uniform(rng, (4, 3), low, high)

    def fn(prediction, target, mask=None):
        if mask is None:
            return loss(prediction, target, reduction=reduction, **given)
        items = loss(prediction, target, reduction="none", **given) * mask
        count = mask.to(torch.float64).expand(4, 3).sum()
        return items if reduction == "none" else items.sum() / (count if reduction == "mean" else 1)

    inputs = {"prediction": prediction, "target": target}
    if mask is not None:
        inputs["mask"] = mask
    run(
        f"{call}{title}, {reduction}",
        call,
        inputs,
        ["prediction", "target"],
        fn,
        {"reduction": reduction, **(options or {})},
    )


def classes():
    """Scores of seven items and five classes, targets, and weights of classes."""
    return uniform(rng, (7, 5)), integers(rng, (7,), 5), uniform(rng, (5,), 0.25, 2)


def some_ignored(targets, ignored=-100):
    targets = targets.copy()
    targets[1::3] = ignored
    return targets


booleans = numpy.array([True, False, True, True, False, True, True])
factors = numpy.array([1, 0, 0.5, 2, 0.25, 1, 0])
ce, log_softmax = F.cross_entropy, lambda x: F.log_softmax(torch.tensor(x), -1).numpy().astype("f4").astype("f8")

for reduction in ("mean", "sum", "none"):
    x, y, w = classes()
    of_classes("class indices", "crossEntropy", ce, x, y, reduction)
    of_classes("class indices, some ignored", "crossEntropy", ce, x, some_ignored(y), reduction)
    of_classes("class indices, a class ignored", "crossEntropy", ce, x, y, reduction, ignoreIndex=int(y[0]))
    of_classes("class indices with weights", "crossEntropy", ce, x, some_ignored(y), reduction, w)
    of_classes("class indices, smoothed", "crossEntropy", ce, x, some_ignored(y), reduction, labelSmoothing=0.1)
    of_classes("class indices with weights, smoothed", "crossEntropy", ce, x, some_ignored(y), reduction, w, labelSmoothing=0.3)
    of_classes("class indices, smoothed entirely", "crossEntropy", ce, x, y, reduction, w, labelSmoothing=1.0)
    deep, targets = uniform(rng, (2, 3, 5), -20, 20), integers(rng, (2, 3), 5)
    of_classes("class indices of sequences with weights, smoothed", "crossEntropy", ce, deep, targets, reduction, w, labelSmoothing=0.2)
    of_classes("class indices, masked", "crossEntropy", ce, x, some_ignored(y), reduction, mask=booleans)
    of_classes("class indices, weighed by a mask", "crossEntropy", ce, x, some_ignored(y), reduction, mask=factors)
    of_classes("class indices with weights, smoothed and weighed by a mask", "crossEntropy", ce, x, some_ignored(y), reduction, w, factors, labelSmoothing=0.3)

    t = rng.dirichlet(numpy.ones(5), 7).astype("f4").astype("f8")
    for name, options in {"": {}, ", smoothed": {"labelSmoothing": 0.25}}.items():
        for weight, title in ((None, ""), (w, " with weights")):
            given = {TORCH_NAMES[key]: value for key, value in options.items()}
            run(
                f"crossEntropy of probabilities{title}{name}, {reduction}",
                "crossEntropy",
                {"scores": x, "targets": t, **({} if weight is None else {"weight": weight})},
                ["scores", "targets"],
                lambda scores, targets, weight=None: ce(scores, targets, weight=weight, reduction=reduction, **given),
                {"reduction": reduction, **options},
            )

    logp = log_softmax(x)
    of_classes("class indices", "nll", F.nll_loss, logp, some_ignored(y), reduction)
    of_classes("class indices with weights", "nll", F.nll_loss, logp, some_ignored(y), reduction, w)
    of_classes("class indices of sequences", "nll", F.nll_loss, log_softmax(deep), targets, reduction)
    of_classes("class indices with weights, weighed by a mask", "nll", F.nll_loss, logp, some_ignored(y), reduction, w, factors)

    rows = numpy.array([[True], [False], [True], [True]])
    each = numpy.array([1, 0.5, 0])
    for mask, title in ((None, ""), (rows, ", masked"), (each, ", weighed by a mask")):
        of_numbers(title, "mse", F.mse_loss, reduction, -3, 3, mask=mask)
        of_numbers(title, "mae", F.l1_loss, reduction, -3, 3, mask=mask)
        of_numbers(title, "huber", F.huber_loss, reduction, -3, 3, {"delta": 0.75}, mask, delta=0.75)
        of_numbers(title, "bceWithLogits", F.binary_cross_entropy_with_logits, reduction, 0, 1, mask=mask)

# Where branches meet, and where exponentials would overflow.
kinks = numpy.array([0, 0.75, -0.75, 2, -2, 1e4])
zeros = numpy.zeros(6)
for call, loss, options in (("mae", F.l1_loss, {}), ("huber", F.huber_loss, {"delta": 0.75})):
    run(
        f"{call} at its corners",
        call,
        {"prediction": kinks, "target": zeros},
        ["prediction", "target"],
        lambda prediction, target: loss(prediction, target, reduction="none", **options),
        {"reduction": "none", **options},
    )
for target in (0.0, 0.5, 1.0):
    run(
        f"bceWithLogits of small and large logits, target {target}",
        "bceWithLogits",
        {"prediction": numpy.array([0, 1e-3, -1e-3, 15, -15, 100, -100, 1e4, -1e4]), "target": numpy.full(9, target)},
        ["prediction", "target"],
        lambda prediction, target: F.binary_cross_entropy_with_logits(prediction, target, reduction="none"),
        {"reduction": "none"},
    )

write("loss", SEED, cases, torch=torch.__version__)
