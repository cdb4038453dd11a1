"""Golden cases in f64 of linear with each activation, of the activations by themselves, of softmax, of sums and products along
an axis, from PyTorch; and of dropout, from the definition of its random numbers in NumPy. Results and gradients.
"""

import math

import numpy
import torch
import torch.nn.functional as F

from golden import case, generator, integers, uniform, write

SEED = 71
rng = generator(SEED)
cases = []


def run(title, call, inputs, fn, options=None):
    """Adds a case; `fn` takes the inputs by name."""
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in inputs.items()}
    y = fn(**leaves)
    upstream = uniform(rng, tuple(y.shape), -1, 1)
    (y * torch.tensor(upstream)).sum().backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    cases.append(case(title, call, inputs, {"y": y}, options, {"y": upstream}, gradients))


ACTIVATIONS = {
    "relu": F.relu,
    "leakyRelu": F.leaky_relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "geluTanh": lambda z: F.gelu(z, approximate="tanh"),
}
# Weights are [in, out] here, [out, in] there.
identity = lambda z: z
for name, act in {None: identity, **ACTIVATIONS}.items():
    options = {} if name is None else {"activation": name}
    for shape, bias in (((4, 3), True), ((2, 3, 5), False)):
        sizes = {"x": shape, "weight": (shape[-1], 7), **({"bias": (7,)} if bias else {})}
        inputs = {key: uniform(rng, size, -1.5, 1.5) for key, size in sizes.items()}
        run(
            f"linear of {list(shape)}, {name}",
            "linear",
            inputs,
            lambda x, weight, bias=None: act(F.linear(x, weight.T, bias)),
            options,
        )
for size, outputs in (((5, 4), 3), ((1, 9), 4)):
    inputs = {"x": integers(rng, size, 5, -4), "weight": integers(rng, (size[1], outputs), 5, -4)}
    inputs = {name: value.astype(float) for name, value in inputs.items()}
    inputs["bias"] = integers(rng, (outputs,), 5, -4).astype(float)
    z = inputs["x"] @ inputs["weight"] + inputs["bias"]
    cases.append(case(f"perceptron of {list(size)}", "linear", inputs, {"y": numpy.heaviside(z, 0)}, {"activation": "heaviside"}))

# From the far left tail to where all is linear; with numbers that PyTorch takes, in place of the defaults.
z = numpy.concatenate([uniform(rng, (40,), -12, 12), uniform(rng, (20,), -1, 1)])
for name, act in ACTIVATIONS.items():
    run(name, "activation", {"x": z}, lambda x: act(x), {"name": name})
run("leakyRelu 0.3", "activation", {"x": z}, lambda x: F.leaky_relu(x, 0.3), {"name": "leakyRelu", "setting": 0.3})
run("elu 0.5", "activation", {"x": z}, lambda x: F.elu(x, 0.5), {"name": "elu", "setting": 0.5})
softplus = {"beta": 2, "threshold": 6}
run("softplus 2, 6", "activation", {"x": z}, lambda x: F.softplus(x, 2, 6), {"name": "softplus", "setting": softplus})

for axis in (-1, 0, 1):
    x = {"x": uniform(rng, (3, 5, 9), -4, 4)}
    axes = {"axis": axis}
    run(f"softmax along {axis}", "softmax", x, lambda x: F.softmax(x, axis), axes)
    run(f"logSoftmax along {axis}", "logSoftmax", x, lambda x: F.log_softmax(x, axis), axes)
    run(f"logSumExp along {axis}", "logSumExp", x, lambda x: torch.logsumexp(x, axis), axes)
    for p in (1, 2, 3, math.inf):
        options = {**axes, "p": "Infinity" if p == math.inf else p}
        run(f"norm {p} along {axis}", "norm", x, lambda x: torch.linalg.vector_norm(x, p, axis), options)
    x = {"x": uniform(rng, (3, 5, 4), -2, 2)}
    run(f"cumsum along {axis}", "cumsum", x, lambda x: torch.cumsum(x, axis), axes)
    # A zero in some rows, two in others.
    x["x"][0, 1, 2] = x["x"][1, 1, 1] = x["x"][1, 3, 1] = 0
    run(f"cumprod along {axis}", "cumprod", x, lambda x: torch.cumprod(x, axis), axes)
    run(f"prod along {axis}", "prod", x, lambda x: torch.prod(x, axis), axes)


def philox(counter, key):
    """Philox 4x32-10: four words."""
    c, k = list(counter), list(key)
    for number in range(10):
        if number > 0:
            k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b % 2**32, a >> 32 ^ c[3] ^ k[1], a % 2**32]
    return c


def keeps(shape, p, seed, site, draw):
    """Which elements dropout keeps: row by row, by the place in the row."""
    rows, inner = (1, shape[0]) if len(shape) == 1 else (shape[0], math.prod(shape[1:]))
    words = [[philox((i // 4, row, site, draw), (seed % 2**32, seed >> 32))[i % 4] for i in range(inner)] for row in range(rows)]
    return (numpy.array(words) >> 8 >= math.ceil(p * 2**24)).reshape(shape)


assert [hex(word) for word in philox((0,) * 4, (0,) * 2)] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
# Two layers, made one after the other, in the first window and in the second one.
for shape, p, seed in (((13,), 0.5, 0), ((5, 7), 0.25, 3), ((4, 3, 6), 0.9, 2**40 + 17)):
    x = uniform(rng, shape)
    upstream = {name: uniform(rng, shape, -1, 1) for name in ("first", "second", "later")}
    masks = {"first": keeps(shape, p, seed, 0, 0), "second": keeps(shape, p, seed, 1, 0), "later": keeps(shape, p, seed, 0, 1)}
    masks = {name: mask / (1 - p) for name, mask in masks.items()}
    cases.append(
        case(
            f"dropout {p} of {list(shape)}",
            "dropout",
            {"x": x},
            {name: x * mask for name, mask in masks.items()},
            {"p": p, "seed": seed},
            upstream,
            {"x": sum(upstream[name] * mask for name, mask in masks.items())},
        )
    )

write("layer", SEED, cases, torch=torch.__version__)
