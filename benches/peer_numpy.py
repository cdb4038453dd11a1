"""NumPy as a peer: reads one JSON request per line, does the work, answers with seconds per call or with check numbers.

Written the way a careful NumPy user writes: f32 throughout, preallocated results, `out=` wherever there is one.
"""

import json
import sys
import time

import numpy as np

from peer_numpy_norms import NORMS, numbers


class Gemm:
    def __init__(self, n):
        self.a, self.b = numbers((n, n), 7), numbers((n, n), 11)
        self.c = np.empty((n, n), np.float32)

    def call(self):
        np.matmul(self.a, self.b, out=self.c)

    def check(self):
        self.call()
        return self.c.ravel()[:: max(1, self.c.size // 16)][:16]


class Linear:
    """relu(XW + b)"""

    def __init__(self, m, k, n):
        self.x, self.w, self.b = numbers((m, k), 7), numbers((k, n), 11), numbers((n,), 13)
        self.y = np.empty((m, n), np.float32)

    def call(self):
        np.matmul(self.x, self.w, out=self.y)
        np.add(self.y, self.b, out=self.y)
        np.maximum(self.y, 0, out=self.y)

    def check(self):
        self.call()
        return self.y.ravel()[:: max(1, self.y.size // 16)][:16]


class MlpStep:
    """One AdamW step of the MLP 784-512-256-10 with cross-entropy, parameters in one slab."""

    SIZES = (784, 512, 256, 10)

    def __init__(self, batch):
        self.batch, self.t = batch, 0
        sizes = self.SIZES
        shapes = [s for i in range(3) for s in ((sizes[i], sizes[i + 1]), (sizes[i + 1],))]
        total = sum(int(np.prod(s)) for s in shapes)
        self.p = np.empty(total, np.float32)
        self.g = np.empty(total, np.float32)
        self.m, self.v = np.zeros(total, np.float32), np.zeros(total, np.float32)
        self.s, self.u = np.empty(total, np.float32), np.empty(total, np.float32)
        self.views, self.grads, at = [], [], 0
        for i, shape in enumerate(shapes):
            size = int(np.prod(shape))
            self.views.append(self.p[at : at + size].reshape(shape))
            self.grads.append(self.g[at : at + size].reshape(shape))
            self.views[-1][...] = numbers(shape, 7 + 2 * i) * np.float32(0.1)
            at += size
        self.x = numbers((batch, sizes[0]), 3)
        self.rows = np.arange(batch)
        self.y = self.rows % 10
        self.h = [np.empty((batch, n), np.float32) for n in sizes[1:]]
        self.d = [np.empty((batch, n), np.float32) for n in sizes[1:]]
        self.loss = 0.0

    def call(self):
        (w1, b1, w2, b2, w3, b3), (gw1, gb1, gw2, gb2, gw3, gb3) = self.views, self.grads
        (h1, h2, z), (d1, d2, d3) = self.h, self.d
        np.matmul(self.x, w1, out=h1)
        h1 += b1
        np.maximum(h1, 0, out=h1)
        np.matmul(h1, w2, out=h2)
        h2 += b2
        np.maximum(h2, 0, out=h2)
        np.matmul(h2, w3, out=z)
        z += b3
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=d3)
        total = d3.sum(axis=1, keepdims=True)
        self.loss = float((np.log(total[:, 0]) - z[self.rows, self.y]).mean())
        d3 /= total
        d3[self.rows, self.y] -= 1
        d3 *= np.float32(1 / self.batch)
        np.matmul(h2.T, d3, out=gw3)
        d3.sum(axis=0, out=gb3)
        np.matmul(d3, w3.T, out=d2)
        d2 *= h2 > 0
        np.matmul(h1.T, d2, out=gw2)
        d2.sum(axis=0, out=gb2)
        np.matmul(d2, w2.T, out=d1)
        d1 *= h1 > 0
        np.matmul(self.x.T, d1, out=gw1)
        d1.sum(axis=0, out=gb1)
        self.adamw()

    def adamw(self, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, wd=1e-2):
        f = np.float32
        p, g, m, v, s, u = self.p, self.g, self.m, self.v, self.s, self.u
        self.t += 1
        p *= f(1 - lr * wd)
        m *= f(b1)
        np.multiply(g, f(1 - b1), out=s)
        m += s
        v *= f(b2)
        np.multiply(g, g, out=s)
        s *= f(1 - b2)
        v += s
        np.sqrt(v, out=s)
        s *= f(1 / np.sqrt(1 - b2**self.t))
        s += f(eps)
        np.divide(m, s, out=u)
        u *= f(lr / (1 - b1**self.t))
        p -= u

    def check(self):
        losses = []
        for _ in range(8):
            self.call()
            losses.append(self.loss)
        return losses


WORK = {
    "gemm": Gemm,
    "linear": Linear,
    "mlp": MlpStep,
    **NORMS,
}


def main():
    jobs = {}
    print(json.dumps({"numpy": np.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        key = json.dumps([request["work"], request["sizes"]])
        if request["command"] == "check":
            answer = [float(v) for v in WORK[request["work"]](*request["sizes"]).check()]
        else:
            job = jobs.get(key) or jobs.setdefault(key, WORK[request["work"]](*request["sizes"]))
            started = time.perf_counter()
            for _ in range(request["calls"]):
                job.call()
            answer = (time.perf_counter() - started) / request["calls"]
        print(json.dumps(answer), flush=True)


main()
