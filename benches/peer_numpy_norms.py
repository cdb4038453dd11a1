"""Normalisations and softmax in NumPy, forward and backward: works of `peer_numpy.py`.

A work is made with the shape of x, has what does not change from call to call, and writes into arrays of its own.
Backward works have what their forward pass leaves: the result, or means and scales.
"""

import numpy as np

GROUPS = 8
EPS = np.float32(1e-5)


def numbers(shape, step):
    count = int(np.prod(shape))
    index = np.arange(count, dtype=np.float64)
    return (((index * step) % 1000) / 1000 - 0.5).astype(np.float32).reshape(shape)


class Work:
    """Numbers as every contestant has them, of which `y` is what is made."""

    def __init__(self, *shape):
        self.x = numbers(shape, 7)
        self.dy = numbers(shape, 23)
        channels = (shape[1],)
        self.weight, self.bias = numbers(channels, 11), numbers(channels, 13)
        self.y, self.s = np.empty_like(self.x), np.empty_like(self.x)
        self.prepare()

    def prepare(self):
        pass

    def check(self):
        self.call()
        return self.y.ravel()[:: max(1, self.y.size // 16)][:16]


class Softmax(Work):
    def prepare(self):
        self.x *= np.float32(8)

    def call(self):
        np.subtract(self.x, self.x.max(axis=1, keepdims=True), out=self.y)
        np.exp(self.y, out=self.y)
        self.y /= self.y.sum(axis=1, keepdims=True)


class SoftmaxBackward(Softmax):
    def prepare(self):
        super().prepare()
        super().call()
        self.p, self.y = self.y, np.empty_like(self.y)

    def call(self):
        along = np.einsum("ij,ij->i", self.dy, self.p)[:, None]
        np.subtract(self.dy, along, out=self.y)
        self.y *= self.p


class MaskedSoftmax(Softmax):
    def prepare(self):
        super().prepare()
        self.mask = (np.arange(self.x.size) % 3 != 1).reshape(self.x.shape)

    def call(self):
        # Faster than copying where the mask says so.
        self.y = np.where(self.mask, self.x, np.float32(-np.inf))
        self.y -= self.y.max(axis=1, keepdims=True)
        np.exp(self.y, out=self.y)
        self.y /= self.y.sum(axis=1, keepdims=True)


class MaskedSoftmaxBackward(MaskedSoftmax):
    def __init__(self, *shape):
        super().__init__(*shape)
        super().call()
        self.p, self.y = self.y, np.empty_like(self.y)

    # What is masked has p = 0.
    call = SoftmaxBackward.call


class LayerNorm(Work):
    def call(self):
        np.subtract(self.x, self.x.mean(axis=1, keepdims=True), out=self.y)
        variance = np.einsum("ij,ij->i", self.y, self.y) / np.float32(self.y.shape[1])
        self.y *= (1 / np.sqrt(variance + EPS))[:, None]
        self.y *= self.weight
        self.y += self.bias


class LayerNormBackward(Work):
    def prepare(self):
        self.mean = self.x.mean(axis=1, keepdims=True)
        self.scale = 1 / np.sqrt(self.x.var(axis=1, keepdims=True) + EPS)
        self.normal = np.empty_like(self.x)

    def call(self):
        n = np.float32(self.x.shape[1])
        np.subtract(self.x, self.mean, out=self.normal)
        self.normal *= self.scale
        self.dweight = np.einsum("ij,ij->j", self.dy, self.normal)
        self.dbias = self.dy.sum(axis=0)
        np.multiply(self.dy, self.weight, out=self.y)
        mean = self.y.mean(axis=1, keepdims=True)
        along = (np.einsum("ij,ij->i", self.y, self.normal) / n)[:, None]
        self.y -= mean
        self.normal *= along
        self.y -= self.normal
        self.y *= self.scale


class RmsNorm(Work):
    def call(self):
        squares = np.einsum("ij,ij->i", self.x, self.x) / np.float32(self.x.shape[1])
        np.multiply(self.x, (1 / np.sqrt(squares + EPS))[:, None], out=self.y)
        self.y *= self.weight


class RmsNormBackward(Work):
    def prepare(self):
        self.scale = 1 / np.sqrt((self.x * self.x).mean(axis=1, keepdims=True) + EPS)
        self.normal = np.empty_like(self.x)

    def call(self):
        np.multiply(self.x, self.scale, out=self.normal)
        self.dweight = np.einsum("ij,ij->j", self.dy, self.normal)
        np.multiply(self.dy, self.weight, out=self.y)
        along = (np.einsum("ij,ij->i", self.y, self.normal) / np.float32(self.x.shape[1]))[:, None]
        self.normal *= along
        self.y -= self.normal
        self.y *= self.scale


class GroupNorm(Work):
    def prepare(self):
        rows, channels = self.x.shape[:2]
        self.of_groups = (rows * GROUPS, self.x.size // (rows * GROUPS))
        by_channel = (1, channels) + (1,) * (self.x.ndim - 2)
        self.weight, self.bias = self.weight.reshape(by_channel), self.bias.reshape(by_channel)

    def call(self):
        x, y = self.x.reshape(self.of_groups), self.y.reshape(self.of_groups)
        np.subtract(x, x.mean(axis=1, keepdims=True), out=y)
        variance = np.einsum("ij,ij->i", y, y) / np.float32(y.shape[1])
        y *= (1 / np.sqrt(variance + EPS))[:, None]
        self.y *= self.weight
        self.y += self.bias


class BatchNormTraining(Work):
    """By the statistics of the rows themselves."""

    def call(self):
        np.subtract(self.x, self.x.mean(axis=0), out=self.y)
        variance = np.einsum("ij,ij->j", self.y, self.y) / np.float32(self.y.shape[0])
        self.y *= self.weight / np.sqrt(variance + EPS)
        self.y += self.bias


class BatchNormTrainingBackward(Work):
    def prepare(self):
        self.mean = self.x.mean(axis=0)
        self.scale = 1 / np.sqrt(self.x.var(axis=0) + EPS)
        self.normal = np.empty_like(self.x)

    def call(self):
        n = np.float32(self.x.shape[0])
        np.subtract(self.x, self.mean, out=self.normal)
        self.dweight = np.einsum("ij,ij->j", self.dy, self.normal) * self.scale
        self.dbias = self.dy.sum(axis=0)
        self.normal *= self.dweight * self.scale / n
        np.subtract(self.dy, self.dbias / n, out=self.y)
        self.y -= self.normal
        self.y *= self.weight * self.scale


class BatchNormEvaluation(Work):
    """By given statistics, which make one factor and one shift per channel."""

    def prepare(self):
        channels = self.weight.shape
        self.mean, self.variance = numbers(channels, 17), numbers(channels, 19) + np.float32(1)

    def call(self):
        scale = self.weight / np.sqrt(self.variance + EPS)
        np.multiply(self.x, scale, out=self.y)
        self.y += self.bias - self.mean * scale


class BatchNormEvaluationBackward(BatchNormEvaluation):
    def call(self):
        istd = 1 / np.sqrt(self.variance + EPS)
        np.subtract(self.x, self.mean, out=self.s)
        self.dweight = np.einsum("ij,ij->j", self.dy, self.s) * istd
        self.dbias = self.dy.sum(axis=0)
        np.multiply(self.dy, self.weight * istd, out=self.y)


NORMS = {
    "softmax": Softmax,
    "softmaxBackward": SoftmaxBackward,
    "maskedSoftmax": MaskedSoftmax,
    "maskedSoftmaxBackward": MaskedSoftmaxBackward,
    "layerNorm": LayerNorm,
    "layerNormBackward": LayerNormBackward,
    "rmsNorm": RmsNorm,
    "rmsNormBackward": RmsNormBackward,
    "groupNorm": GroupNorm,
    "batchNormTraining": BatchNormTraining,
    "batchNormTrainingBackward": BatchNormTrainingBackward,
    "batchNormEvaluation": BatchNormEvaluation,
    "batchNormEvaluationBackward": BatchNormEvaluationBackward,
}
