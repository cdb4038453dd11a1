"""Golden cases of attention and embeddings, from torch.nn in f64: values and gradients. Attention alone is written out.

Weights of layers are inputs of the cases, in the layout [in, out] of this library: torch gets them transposed.
"""

import numpy
import torch
import torch.nn.functional as F
import torch.nn.utils.stateless

from golden import case, generator, integers, uniform, write

SEED = 16
rng = generator(SEED)
cases = []


def run(title, call, inputs, wanted, fn, options=None):
    """Adds a case: `fn` of the inputs as tensors gives the result; `wanted` names the inputs that get a gradient."""
    leaves = {}
    for name, x in inputs.items():
        dtype = {"f": torch.float64, "i": torch.int64, "b": torch.bool}[x.dtype.kind]
        leaves[name] = torch.tensor(x, dtype=dtype, requires_grad=name in wanted)
    y = fn(**leaves)
    upstream = uniform(rng, tuple(y.shape), -1.5, 1.5)
    (y * torch.tensor(upstream)).sum().backward()
    gradients = {name: leaves[name].grad for name in wanted}
    cases.append(case(title, call, inputs, {"y": y}, options, {"y": upstream}, gradients))


def heads(*lead, tq=5, tk=7, d=4, dv=3):
    return {"q": uniform(rng, (*lead, tq, d)), "k": uniform(rng, (*lead, tk, d)), "v": uniform(rng, (*lead, tk, dv))}


def attention(q, k, v, mask=None, causal=False, scale=None):
    """The formula of torch.nn.functional.scaled_dot_product_attention's documentation. Every query has a key here."""
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    if mask is not None and mask.dtype == torch.bool:
        allowed = allowed & mask
    elif mask is not None:
        scores = scores + mask
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v


QKV = ["q", "k", "v"]
run("one sequence", "attention", heads(), QKV, lambda **x: attention(**x))
run("heads", "attention", heads(2, 3), QKV, lambda **x: attention(**x))
run(
    "causal, from the top left",
    "attention",
    heads(2, 2),
    QKV,
    lambda **x: attention(**x, causal=True),
    {"causal": True},
)
run(
    "causal, more queries than keys",
    "attention",
    heads(2, tq=6, tk=3),
    QKV,
    lambda **x: attention(**x, causal=True),
    {"causal": True},
)
run("a scale", "attention", heads(2), QKV, lambda **x: attention(**x, scale=0.3), {"scale": 0.3})
mask = rng.uniform(size=(2, 1, 5, 7)) < 0.6
mask[..., 0] = True
run(
    "a mask of bools",
    "attention",
    {**heads(2, 3), "mask": mask},
    QKV,
    lambda **x: attention(**x),
)
run(
    "a mask of numbers, which learns",
    "attention",
    {**heads(2, 3), "mask": uniform(rng, (3, 5, 7))},
    [*QKV, "mask"],
    lambda **x: attention(**x),
)
infinite = uniform(rng, (5, 7))
infinite[rng.uniform(size=(5, 7)) < 0.3] = -numpy.inf
infinite[:, 0] = 0.5
run(
    "a mask of numbers, some of them minus infinity",
    "attention",
    {**heads(2), "mask": infinite},
    QKV,
    lambda **x: attention(**x),
)
run(
    "causal and a mask",
    "attention",
    {**heads(2, 3), "mask": mask},
    QKV,
    lambda **x: attention(**x, causal=True),
    {"causal": True},
)


def layer(title, inputs, embed, count, options=None, bias=True, kdim=None, vdim=None, **masks):
    """nn.MultiheadAttention; weights drawn here."""
    names = {"out_proj.weight": (embed, embed)}
    if kdim is None and vdim is None:
        names = {"in_proj_weight": (embed, 3 * embed), **names}
    else:
        kinds = {"q": embed, "k": kdim or embed, "v": vdim or embed}
        names = {**{f"{name}_proj_weight": (size, embed) for name, size in kinds.items()}, **names}
    if bias:
        names = {**names, "in_proj_bias": (3 * embed,), "out_proj.bias": (embed,)}
    weights = {name: uniform(rng, shape, -0.75, 0.75) for name, shape in names.items()}
    sequences = list(inputs)
    every = {**inputs, **weights, **masks}

    def fn(**x):
        torch_layer = torch.nn.MultiheadAttention(
            embed, count, bias=bias, kdim=kdim, vdim=vdim, batch_first=True, dtype=torch.float64
        )
        given = {name: x[name].T if x[name].dim() == 2 else x[name] for name in weights}
        arguments = [x.get(name, x[sequences[0]]) for name in ("query", "key", "value")]
        # True means padding there, and a real key here.
        padding = {"key_padding_mask": ~x["keyMask"]} if "keyMask" in x else {}
        blocked = {"attn_mask": ~x["mask"]} if "mask" in x else {}
        y, _ = torch.nn.utils.stateless.functional_call(torch_layer, given, tuple(arguments), {**padding, **blocked})
        return y

    sizes = {"embedDim": embed, "numHeads": count, "bias": bias}
    sizes |= {name: size for name, size in (("kdim", kdim), ("vdim", vdim)) if size is not None}
    run(title, "multiHeadAttention", every, [*sequences, *weights], fn, sizes)


layer("self-attention", {"query": uniform(rng, (2, 5, 6))}, 6, 2)
layer("self-attention of one sequence, without bias", {"query": uniform(rng, (4, 6))}, 6, 3, bias=False)
real = numpy.arange(5) < numpy.array([[5], [3], [1]])
layer("padding", {"query": uniform(rng, (3, 5, 4))}, 4, 2, keyMask=real)
layer("a mask", {"query": uniform(rng, (2, 5, 4))}, 4, 1, mask=numpy.tri(5, dtype=bool))
layer(
    "cross-attention",
    {"query": uniform(rng, (2, 3, 6)), "key": uniform(rng, (2, 5, 6)), "value": uniform(rng, (2, 5, 6))},
    6,
    2,
)
layer(
    "keys and values of other sizes",
    {"query": uniform(rng, (2, 3, 6)), "key": uniform(rng, (2, 5, 3)), "value": uniform(rng, (2, 5, 4))},
    6,
    2,
    kdim=3,
    vdim=4,
)

for title, padding in (("rows", None), ("rows with padding", 2), ("rows with padding from the end", -1)):
    options = {} if padding is None else {"paddingIdx": padding}
    indices = integers(rng, (3, 5), 6)
    indices[0, :3] = [2, 5, 2]
    run(
        title,
        "embedding",
        {"indices": indices, "weight": uniform(rng, (6, 4))},
        ["weight"],
        lambda indices, weight, padding=padding: F.embedding(indices, weight, padding_idx=padding),
        options,
    )

write("attention", SEED, cases, torch=torch.__version__)
