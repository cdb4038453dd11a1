"""What the scripts of golden files share: seeded inputs, and the form of a file.

A file under `__test__/golden/` holds cases that somebody else computed: PyTorch, or NumPy where a formula is short, always
in f64. Inputs are multiples of 2^-10, so f32 holds them exactly and one case serves every element type.
`__test__/helpers/golden.ts` reads these files and says what each field means. Nothing here runs in CI.
"""

import json
import math
import pathlib
import platform
import sys

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generator(seed):
    """Random numbers that NumPy promises to keep for a seed."""
    return numpy.random.Generator(numpy.random.PCG64(seed))


def uniform(rng, shape, low=-3.0, high=3.0):
    """Multiples of 2^-10 in [low, high)."""
    return numpy.floor(rng.uniform(low, high, shape) * 1024) / 1024


def integers(rng, shape, end, start=0):
    """Whole numbers in [start, end)."""
    return rng.integers(start, end, shape).astype(numpy.int32)


def _number(x):
    # JSON has no word for these; Number() in JavaScript reads them.
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "Infinity" if x > 0 else "-Infinity"
    return int(x) if x == int(x) and abs(x) < 2**53 else x


def array(x):
    """A tensor or array as the file holds it: `float` becomes f32 or f64 as the test asks."""
    if hasattr(x, "detach"):
        x = x.detach().numpy()
    x = numpy.asarray(x)
    kind = {"f": "float", "i": "i32", "b": "bool"}[x.dtype.kind]
    return {"dtype": kind, "shape": list(x.shape), "values": [_number(float(v)) for v in x.reshape(-1)]}


def case(title, call, inputs, outputs, options=None, upstream=None, gradients=None):
    """One case. `gradients` are those of the sum over all outputs of upstream * output, by the name of the input."""
    arrays = lambda named: {name: array(x) for name, x in named.items()}
    result = {"title": title, "call": call, "options": options or {}, "inputs": arrays(inputs)}
    result["outputs"] = arrays(outputs)
    if gradients is not None:
        result["upstream"] = arrays(upstream)
        result["gradients"] = arrays(gradients)
    return result


def write(family, seed, cases, **versions):
    """Writes `__test__/golden/<family>.json`, a case a line, with what made it."""
    titles = [one["title"] for one in cases]
    assert len(set(titles)) == len(titles), "titles tell cases apart"
    made = {"python": platform.python_version(), "numpy": numpy.__version__, **versions}
    script = f"scripts/golden/{pathlib.Path(sys.argv[0]).name}"
    head = json.dumps({"script": script, "versions": made, "seed": seed})
    lines = ",\n".join(json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in cases)
    path = ROOT / "__test__" / "golden" / f"{family}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(cases)} cases, {path.stat().st_size} bytes")
