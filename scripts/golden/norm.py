"""Golden cases of layerNorm, groupNorm and rmsNorm in f64: results, and gradients towards operand, weight and bias. The
first two are torch.nn.functional's; PyTorch before 2.4 has no rms_norm, so that one is its formula, differentiated by PyTorch.
"""

import torch
import torch.nn.functional as F

from golden import case, generator, uniform, write

SEED = 53
rng = generator(SEED)
cases = []


def run(call, title, shape, affine, options, fn):
    """Adds a case; `affine` is the shape of those of weight and bias that `fn` takes."""
    inputs = {"x": uniform(rng, shape, -1, 3)}
    for name in ("weight", "bias"):
        if name in fn.__code__.co_varnames[: fn.__code__.co_argcount]:
            inputs[name] = uniform(rng, affine, -2, 2)
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in inputs.items()}
    y = fn(**leaves)
    upstream = uniform(rng, tuple(y.shape), -1, 1)
    (y * torch.tensor(upstream)).sum().backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    cases.append(case(f"{call} {title}", call, inputs, {"y": y}, options, {"y": upstream}, gradients))


def rms(x, shape, weight=None, eps=None):
    axes = tuple(range(-len(shape), 0))
    y = x / (x.square().mean(axes, keepdim=True) + eps).sqrt()
    return y if weight is None else y * weight


for shape, normalized in (((3, 4), (4,)), ((3, 17), (17,)), ((2, 3, 4), (3, 4)), ((20, 3), (3,))):
    name = f"of {list(shape)} over {list(normalized)}"
    sizes = {"normalizedShape": list(normalized)}
    run("layerNorm", name, shape, normalized, sizes, lambda x, weight, bias: F.layer_norm(x, normalized, weight, bias))
    run("layerNorm", f"{name}, plain", shape, normalized, sizes, lambda x: F.layer_norm(x, normalized))
    given = {**sizes, "eps": 1e-3}
    run("layerNorm", f"{name}, eps", shape, normalized, given, lambda x, weight: F.layer_norm(x, normalized, weight, eps=1e-3))
    # eps is given: the default hangs on the dtype, of which a case has several.
    run("rmsNorm", name, shape, normalized, given, lambda x, weight: rms(x, normalized, weight, 1e-3))
    run("rmsNorm", f"{name}, plain", shape, normalized, {**sizes, "eps": 0.5}, lambda x: rms(x, normalized, eps=0.5))

for shape, groups in (((2, 6), 2), ((3, 4, 5), 4), ((2, 6, 2, 3), 3), ((2, 2, 20), 1), ((20, 6), 2)):
    name = f"of {list(shape)}, {groups} groups"
    given = {"groups": groups}
    channels = (shape[1],)
    run("groupNorm", name, shape, channels, given, lambda x, weight, bias: F.group_norm(x, groups, weight, bias))
    run("groupNorm", f"{name}, plain", shape, channels, given, lambda x: F.group_norm(x, groups))
    given = {**given, "eps": 0.25}
    run("groupNorm", f"{name}, eps", shape, channels, given, lambda x, weight: F.group_norm(x, groups, weight, eps=0.25))

write("norm", SEED, cases, torch=torch.__version__)
