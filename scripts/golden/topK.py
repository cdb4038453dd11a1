"""Golden cases of topK, from torch.topk in f64: elements, where they stand, gradients.

Elements of a case differ from each other: torch promises no order of equals.
"""

import numpy
import torch

from golden import case, generator, uniform, write

SEED = 18
rng = generator(SEED)
cases = []


def distinct(shape):
    """Multiples of 2^-10, in any order."""
    count = int(numpy.prod(shape))
    return (rng.permutation(count) - count // 2).reshape(shape) / 1024


def run(title, x, k, axis=-1):
    leaf = torch.tensor(x, requires_grad=True)
    y, indices = torch.topk(leaf, k, dim=axis)
    upstream = uniform(rng, tuple(y.shape), -1.5, 1.5)
    (y * torch.tensor(upstream)).sum().backward()
    outputs = {"y": y, "indices": indices}
    options = {"k": k, "axis": axis}
    cases.append(case(title, "topK", {"x": x}, outputs, options, {"y": upstream}, {"x": leaf.grad}))


run("one of few", distinct((5,)), 1)
run("rows", distinct((4, 9)), 3)
run("all of a row", distinct((3, 7)), 7)
run("columns", distinct((8, 5)), 2, 0)
run("the middle", distinct((2, 6, 3)), 4, 1)
run("none", distinct((2, 5)), 0)
run("long rows", distinct((2, 300)), 70)
special = distinct((3, 6))
special[0, 2] = float("nan")
special[1, 1], special[1, 4] = float("inf"), float("-inf")
special[2, 0], special[2, 5] = float("-inf"), float("nan")
run("NaN before everything, infinities where they belong", special, 6)
run("NaN among the largest", special, 2)

write("topK", SEED, cases, torch=torch.__version__)
