"""Golden cases of the losses, from torch.nn.functional in f64: values, and gradients towards the predictions."""

import torch
import torch.nn.functional as F

from golden import case, generator, integers, uniform, write

SEED = 6
rng = generator(SEED)
cases = []


def run(title, call, inputs, wanted, fn, options=None):
    """Adds a case: `fn` of the inputs as tensors gives the loss; `wanted` names the inputs that get a gradient."""
    leaves = {
        name: torch.tensor(x, dtype=torch.float64 if x.dtype.kind == "f" else torch.int64 if x.dtype.kind == "i" else None)
        for name, x in inputs.items()
    }
    for name in wanted:
        leaves[name].requires_grad_(True)
    loss = fn(**leaves)
    upstream = uniform(rng, tuple(loss.shape), 0.5, 1.5)
    (loss * torch.tensor(upstream)).sum().backward()
    cases.append(
        case(
            title,
            call,
            inputs,
            {"loss": loss},
            options,
            {"loss": upstream},
            {name: leaves[name].grad for name in wanted},
        )
    )


def cross_entropy(title, logits, targets, reduction, **options):
    torch_names = {"ignoreIndex": "ignore_index"}
    given = {torch_names[name]: value for name, value in options.items()}

    def fn(logits, targets):
        return F.cross_entropy(logits, targets, reduction=reduction, **given)

    run(
        f"crossEntropy of {title}, {reduction}",
        "crossEntropy",
        {"logits": logits, "targets": targets},
        ["logits"],
        fn,
        {"reduction": reduction, **options},
    )


for reduction in ("mean", "sum", "none"):
    logits, targets = uniform(rng, (5, 7)), integers(rng, (5,), 7)
    cross_entropy("class indices", logits, targets, reduction)
    targets[1::2] = -100
    cross_entropy("class indices, some ignored", logits, targets, reduction)
    cross_entropy("class indices, a class ignored", logits, abs(targets) % 7, reduction, ignoreIndex=int(targets[0]))
    pair = {"prediction": uniform(rng, (4, 3)), "target": uniform(rng, (4, 3))}
    run(
        f"mse, {reduction}",
        "mse",
        pair,
        ["prediction", "target"],
        lambda prediction, target: F.mse_loss(prediction, target, reduction=reduction),
        {"reduction": reduction},
    )

write("loss", SEED, cases, torch=torch.__version__)
