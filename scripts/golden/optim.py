"""Golden cases of the optimisers, of clipping, of averages of weights and of schedules, from torch.optim and
torch.nn.utils in f64: fifty steps each."""

import math
import warnings

import numpy
import torch

from golden import case, generator, uniform, write

SEED = 7
STEPS = 50
# The warning that a scheduler steps before its optimiser: here only the rates matter.
warnings.filterwarnings("ignore", category=UserWarning)
rng = generator(SEED)
cases = []

OPTIMISERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
NAMES = {"weightDecay": "weight_decay"}


def optimiser(call, title, clip=None, **options):
    """Fifty steps on one parameter with given gradients: it after the first and after the last."""
    start, gradients = uniform(rng, (7,)), uniform(rng, (STEPS, 7))
    p = torch.tensor(start, requires_grad=True)
    one = OPTIMISERS[call]([p], **{NAMES.get(name, name): value for name, value in options.items()})
    seen = []
    for gradient in gradients:
        p.grad = torch.tensor(gradient)
        if clip is not None and "limit" in clip:
            torch.nn.utils.clip_grad_value_([p], clip["limit"])
        elif clip is not None:
            torch.nn.utils.clip_grad_norm_([p], clip["maxNorm"], norm_type=clip["normType"])
        one.step()
        seen.append(p.detach().clone())
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    cases.append(
        case(
            f"{call}, {title}",
            call,
            {"start": start, "gradients": gradients},
            {"first": seen[0], "last": seen[-1]},
            {"options": given, **({"clip": clip} if clip is not None else {})},
        )
    )


def average(title, average_of, **options):
    """Fifty steps of SGD on one parameter, with its average after the first and after the last."""
    start, gradients = uniform(rng, (7,)), uniform(rng, (STEPS, 7))
    model = torch.nn.Module()
    model.p = torch.nn.Parameter(torch.tensor(start))
    one = torch.optim.SGD([model.p], lr=0.1)
    averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=average_of)
    seen = []
    for gradient in gradients:
        model.p.grad = torch.tensor(gradient)
        one.step()
        averaged.update_parameters(model)
        seen.append(averaged.module.p.detach().clone())
    cases.append(
        case(title, "ema", {"start": start, "gradients": gradients}, {"first": seen[0], "last": seen[-1]}, options)
    )


def decayed(decay):
    """An average of which `decay(n)` stays at update n; PyTorch counts in a tensor, whose quotients would be of f32."""
    return lambda old, new, n: decay(int(n)) * old + (1 - decay(int(n))) * new


def schedule(title, make, name, *settings):
    """The rates of the first hundred steps; `settings` are the arguments after the base."""
    base = 0.5
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    one = torch.optim.SGD([p], lr=base)
    scheduler = make(one)
    rates = []
    for _ in range(100):
        rates.append(one.param_groups[0]["lr"])
        scheduler.step()
    inputs = {"base": numpy.array([base])}
    cases.append(case(title, "schedule", inputs, {"lr": numpy.array(rates)}, {"name": name, "settings": settings}))


optimiser("sgd", "plain", lr=0.1)
optimiser("sgd", "decay", lr=0.1, weightDecay=0.1)
optimiser("sgd", "momentum", lr=0.05, momentum=0.9)
optimiser("sgd", "momentum, dampening, decay", lr=0.05, momentum=0.9, dampening=0.5, weightDecay=0.05)
optimiser("sgd", "Nesterov, decay", lr=0.05, momentum=0.9, nesterov=True, weightDecay=0.01)
optimiser("sgd", "the norm clipped", clip={"maxNorm": 1.5, "normType": 2}, lr=0.1)
optimiser("sgd", "the sum of sizes clipped", clip={"maxNorm": 2, "normType": 1}, lr=0.1)
for amsgrad in (False, True):
    also = ", amsgrad" if amsgrad else ""
    optimiser("adam", f"defaults{also}", amsgrad=amsgrad)
    optimiser("adam", f"all settings{also}", lr=0.02, betas=(0.8, 0.95), eps=1e-3, weightDecay=0.2, amsgrad=amsgrad)
    optimiser("adamw", f"defaults{also}", amsgrad=amsgrad)
    optimiser("adamw", f"all settings{also}", lr=0.02, betas=(0.8, 0.95), eps=1e-3, weightDecay=0.2, amsgrad=amsgrad)
optimiser("rmsprop", "defaults")
for centered in (False, True):
    for momentum in (0, 0.7):
        optimiser(
            "rmsprop",
            f"alpha, eps, decay, momentum {momentum}{', centered' if centered else ''}",
            lr=0.02,
            alpha=0.9,
            eps=1e-3,
            weightDecay=0.1,
            momentum=momentum,
            centered=centered,
        )
# Drawn last, so that the numbers of the others stay.
optimiser("sgd", "values clipped", clip={"limit": 0.7}, lr=0.1)
optimiser("sgd", "values clipped to 0", clip={"limit": 0}, lr=0.1, momentum=0.9, weightDecay=0.1)
optimiser("adam", "values clipped, decay", clip={"limit": 1.25}, lr=0.02, weightDecay=0.1)
for decay in (0, 0.25, 0.9, 0.999):
    average(f"average, decay {decay}", decayed(lambda n: decay), decay=decay)
average("average, decay that rises", decayed(lambda n: min(0.95, (1 + n) / (10 + n))), rising=[0.95, 10])
# What PyTorch does when nobody says: the mean of all.
average("average of all", None, mean=True)

lr_scheduler = torch.optim.lr_scheduler
schedule("constant", lambda one: lr_scheduler.LambdaLR(one, lambda s: 1.0), "constant")
schedule("step", lambda one: lr_scheduler.StepLR(one, 30, 0.5), "step", 30, 0.5)
schedule("exponential", lambda one: lr_scheduler.ExponentialLR(one, 0.97), "exponential", 0.97)
schedule("linearWarmup", lambda one: lr_scheduler.LambdaLR(one, lambda s: min(1.0, s / 20)), "linearWarmup", 20)
schedule(
    "linearWarmup, offset 1", lambda one: lr_scheduler.LambdaLR(one, lambda s: min(1.0, (s + 1) / 20)), "linearWarmup", 20, 1
)
# A hundred rates end before the cosine would turn.
schedule(
    "warmupCosine without warm-up, to a floor",
    lambda one: lr_scheduler.CosineAnnealingLR(one, 120, eta_min=0.05),
    "warmupCosine",
    0,
    120,
    0.05,
)
schedule(
    "warmupCosine",
    lambda one: lr_scheduler.LambdaLR(
        one, lambda s: s / 10 if s < 10 else 0.5 * (1 + math.cos(math.pi * min((s - 10) / 70, 1)))
    ),
    "warmupCosine",
    10,
    80,
)
schedule(
    "sequential",
    lambda one: lr_scheduler.SequentialLR(
        one, [lr_scheduler.ExponentialLR(one, 0.9), lr_scheduler.StepLR(one, 10, 0.5)], [25]
    ),
    "sequential",
)

write("optim", SEED, cases, torch=torch.__version__)
