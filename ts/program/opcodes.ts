/**
 * The opcode table: the single source of what a program may contain. The recorder encodes by it, the printer and the
 * `js` device decode by it, and a test holds the Rust side (`crate/src/program/table.rs`) against it. It holds no shape
 * rules and no gradients: those live beside each operation in `ts/ops/`. What other numbers in the words mean stands in `words.ts`;
 * docs/program.md describes the words.
 */

/** How one attribute is written: one word, a float of two words (low, high), an index into the scalars, or a counted list. */
export type AttributeKind = 'u32' | 'f64' | 'scalar' | 'u32s'

/** Which element types an operation computes on. `float`: f32 (and f64 on `js`); `number`: float and i32. */
export type DtypeClass = 'float' | 'number' | 'any' | 'bool'

/** What a family of instructions has in common for planners: only `element` instructions are fused into chains. */
export type OpcodeFamily =
  | 'structure'
  | 'element'
  | 'reduce'
  | 'softmax'
  | 'matmul'
  | 'loss'
  | 'shape'
  | 'gather'
  | 'optim'
  | 'random'
  | 'norm'
  | 'batchNorm'

/** One row of the table. */
export interface Opcode {
  readonly code: number
  readonly family: OpcodeFamily
  /** Number of input registers, or `[least, most]`; inputs that may be absent are written as `NONE`. */
  readonly inputs: number | readonly [number, number]
  /** Number of output registers, or `[least, most]`. */
  readonly outputs: number | readonly [number, number]
  readonly attributes: readonly AttributeKind[]
  /** What the first operand may be (the others follow from it). */
  readonly dtypes: DtypeClass
  /** Positions of inputs that are changed in place. */
  readonly mutates?: readonly number[]
}

const MANY = 0xff_ffff

/** Three words; which ones, the row or its family says: mostly a tensor seen as [outer, count, inner]. */
const THREE = ['u32', 'u32', 'u32'] as const

function element(code: number, inputs: number, dtypes: DtypeClass, attributes: readonly AttributeKind[] = []): Opcode {
  return { code, family: 'element', inputs, outputs: 1, attributes, dtypes }
}

/** Every instruction, by name. */
export const OPCODES = {
  // Structure. `input` binds the next input slot, `output` materialises a register into the next output slot.
  input: { code: 0, family: 'structure', inputs: 0, outputs: 1, attributes: [], dtypes: 'any' },
  output: { code: 1, family: 'structure', inputs: 1, outputs: 0, attributes: [], dtypes: 'any' },
  /** Every element is the scalar. */
  full: { code: 2, family: 'element', inputs: 0, outputs: 1, attributes: ['scalar'], dtypes: 'any' },
  /** The same memory under another shape, from an element offset on: reshape, detach, parameters inside a slab. */
  view: { code: 3, family: 'structure', inputs: 1, outputs: 1, attributes: ['u32'], dtypes: 'any' },
  /** [target, source]: target ← source, same shape. */
  assign: { code: 4, family: 'structure', inputs: 2, outputs: 0, attributes: [], dtypes: 'any', mutates: [0] },
  /** [target, source]: target += source, same shape. */
  addInto: { code: 5, family: 'structure', inputs: 2, outputs: 0, attributes: [], dtypes: 'number', mutates: [0] },
  /** Broadcast to the output's shape (NumPy rules). */
  expand: element(6, 1, 'any'),
  /** To the output's dtype. float → i32 truncates and saturates, NaN gives 0; → bool is ≠ 0. */
  cast: element(7, 1, 'any'),

  // Unary elementwise.
  neg: element(16, 1, 'number'),
  abs: element(17, 1, 'number'),
  sign: element(18, 1, 'number'),
  square: element(19, 1, 'number'),
  sqrt: element(20, 1, 'float'),
  rsqrt: element(21, 1, 'float'),
  reciprocal: element(22, 1, 'float'),
  exp: element(23, 1, 'float'),
  expm1: element(24, 1, 'float'),
  log: element(25, 1, 'float'),
  log1p: element(26, 1, 'float'),
  erf: element(27, 1, 'float'),
  floor: element(28, 1, 'float'),
  ceil: element(29, 1, 'float'),
  logicalNot: element(30, 1, 'bool'),
  /** float → bool: neither infinite nor NaN, by the bits. */
  isFinite: element(31, 1, 'float'),

  // Activations. leakyRelu: slope; elu: alpha; softplus: beta, threshold.
  relu: element(40, 1, 'float'),
  leakyRelu: element(41, 1, 'float', ['f64']),
  elu: element(42, 1, 'float', ['f64']),
  sigmoid: element(43, 1, 'float'),
  tanh: element(44, 1, 'float'),
  silu: element(45, 1, 'float'),
  softplus: element(46, 1, 'float', ['f64', 'f64']),
  heaviside: element(47, 1, 'float'),
  gelu: element(48, 1, 'float'),
  geluTanh: element(49, 1, 'float'),

  // Activation gradients: [dy, saved] → dz. `saved` is y where the derivative is a function of y, else z (semantics of each in ops/activation.ts).
  reluGrad: element(52, 2, 'float'),
  leakyReluGrad: element(53, 2, 'float', ['f64']),
  eluGrad: element(54, 2, 'float', ['f64']),
  sigmoidGrad: element(55, 2, 'float'),
  tanhGrad: element(56, 2, 'float'),
  siluGrad: element(57, 2, 'float'),
  softplusGrad: element(58, 2, 'float', ['f64', 'f64']),
  geluGrad: element(59, 2, 'float'),
  geluTanhGrad: element(60, 2, 'float'),

  // Binary elementwise, broadcasting. Comparisons give bool.
  add: element(64, 2, 'number'),
  sub: element(65, 2, 'number'),
  mul: element(66, 2, 'number'),
  div: element(67, 2, 'float'),
  pow: element(68, 2, 'float'),
  maximum: element(69, 2, 'number'),
  minimum: element(70, 2, 'number'),
  equal: element(71, 2, 'any'),
  notEqual: element(72, 2, 'any'),
  greater: element(73, 2, 'number'),
  greaterEqual: element(74, 2, 'number'),
  less: element(75, 2, 'number'),
  lessEqual: element(76, 2, 'number'),
  logicalAnd: element(77, 2, 'bool'),
  logicalOr: element(78, 2, 'bool'),

  // Ternary elementwise. where: [condition bool, a, b]. clip: lowest and highest value.
  where: element(84, 3, 'any'),
  clip: element(85, 1, 'number', ['scalar', 'scalar']),

  // Reductions over the middle of [outer, count, inner]; attributes outer, count, inner.
  sum: { code: 96, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'number' },
  mean: { code: 97, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'float' },
  max: { code: 98, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'number' },
  min: { code: 99, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'number' },
  /** → i32, the first of equals; a NaN wins, as in max. */
  argmax: { code: 100, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'number' },
  argmin: { code: 101, family: 'reduce', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'number' },
  /** Two passes; the fourth attribute is the correction: divides by count − correction. */
  variance: {
    code: 102,
    family: 'reduce',
    inputs: 1,
    outputs: 1,
    attributes: ['u32', 'u32', 'u32', 'f64'],
    dtypes: 'float',
  },
  /**
   * → the k largest over the middle, largest first, as [outer, k, inner] each: the elements, i32 their indices along the
   * middle, i32 their places in all of x. NaN before everything, of equals the first; attributes outer, count, inner, k.
   */
  topK: {
    code: 103,
    family: 'reduce',
    inputs: 1,
    outputs: 3,
    attributes: ['u32', 'u32', 'u32', 'u32'],
    dtypes: 'number',
  },
  /** Running sum along the middle; attributes outer, count, inner, reverse (from the end), exclusive (without itself). */
  cumsum: {
    code: 104,
    family: 'reduce',
    inputs: 1,
    outputs: 1,
    attributes: ['u32', 'u32', 'u32', 'u32', 'u32'],
    dtypes: 'number',
  },
  /** The same with products. */
  cumprod: {
    code: 105,
    family: 'reduce',
    inputs: 1,
    outputs: 1,
    attributes: ['u32', 'u32', 'u32', 'u32', 'u32'],
    dtypes: 'number',
  },

  // Softmax over the middle of [outer, count, inner].
  softmax: { code: 112, family: 'softmax', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'float' },
  logSoftmax: { code: 113, family: 'softmax', inputs: 1, outputs: 1, attributes: THREE, dtypes: 'float' },
  /** [dy, y] → dx. */
  softmaxGrad: { code: 114, family: 'softmax', inputs: 2, outputs: 1, attributes: THREE, dtypes: 'float' },
  logSoftmaxGrad: { code: 115, family: 'softmax', inputs: 2, outputs: 1, attributes: THREE, dtypes: 'float' },

  // Products. matmul: [a, b], rank ≥ 2, batch dimensions broadcast; attributes transposeA, transposeB (0 or 1).
  matmul: { code: 120, family: 'matmul', inputs: 2, outputs: 1, attributes: ['u32', 'u32'], dtypes: 'float' },
  /** [x […, K], weight [K, N], bias [N] | none] → y […, N] (and z with saveZ); attributes activation, saveZ. */
  linear: { code: 121, family: 'matmul', inputs: 3, outputs: [1, 2], attributes: ['u32', 'u32'], dtypes: 'float' },
  /**
   * [dy […, N], saved | none, x | none, weight | none] → the wanted of dx, dweight, dbias, in this order;
   * attributes activation, wanted (1 dx, 2 dweight, 4 dbias). `saved` is absent for activation none only;
   * `x` is there iff dweight is wanted, `weight` iff dx is wanted. Other outputs' shapes follow from dy.
   */
  linearGrad: { code: 122, family: 'matmul', inputs: 4, outputs: [1, 3], attributes: ['u32', 'u32'], dtypes: 'float' },

  // Cross-entropy with class indices: [logits […, C], targets […] i32] → losses […], logSumExp […], count [] (items not
  // ignored); attribute ignoreIndex (i32 bits). A target outside [0, C) that is not ignored poisons every output.
  crossEntropy: { code: 128, family: 'loss', inputs: 2, outputs: 3, attributes: ['u32'], dtypes: 'float' },
  /** [logits, targets, logSumExp, dlosses […]] → dlogits; attribute ignoreIndex. */
  crossEntropyGrad: { code: 129, family: 'loss', inputs: 4, outputs: 1, attributes: ['u32'], dtypes: 'float' },
  /**
   * [logits […, C], targets […] i32, weight [C] | none, Σ weight [] | none] → losses […], logSumExp […], weights […] (of
   * the target's class, 0 where ignored); attributes ignoreIndex (i32 bits), labelSmoothing ε. The loss of an item is
   * −Σ_c q_c·log softmax(logits)_c with q_c = weight_c·((1 − ε)·[c = target] + ε/C). Σ weight is there iff weight is and ε > 0.
   */
  weightedCrossEntropy: {
    code: 130,
    family: 'loss',
    inputs: 4,
    outputs: 3,
    attributes: ['u32', 'f64'],
    dtypes: 'float',
  },
  /** [logits, targets, logSumExp, dlosses […], weight | none, Σ weight | none] → dlogits; attributes the same. */
  weightedCrossEntropyGrad: {
    code: 131,
    family: 'loss',
    inputs: 6,
    outputs: 1,
    attributes: ['u32', 'f64'],
    dtypes: 'float',
  },

  // Shape.
  transpose: { code: 136, family: 'shape', inputs: 1, outputs: 1, attributes: ['u32s'], dtypes: 'any' },
  concat: { code: 137, family: 'shape', inputs: [1, MANY], outputs: 1, attributes: ['u32'], dtypes: 'any' },
  /** Attribute starts; the sizes are the output's. */
  slice: { code: 138, family: 'shape', inputs: 1, outputs: 1, attributes: ['u32s'], dtypes: 'any' },
  /** Attributes before (how many elements precede, per axis) and the value; the sizes are the output's. */
  pad: { code: 139, family: 'shape', inputs: 1, outputs: 1, attributes: ['u32s', 'scalar'], dtypes: 'any' },

  // Indexing along one axis. gather: [x, indices i32]; an index outside [0, size) poisons the output. Attributes axis, and what
  // an index is, a position in `INDEXED`.
  gather: { code: 144, family: 'gather', inputs: 2, outputs: 1, attributes: ['u32', 'u32'], dtypes: 'any' },
  /** [dy, indices] → zeros of the output's shape plus every dy slice at its index, in ascending order of position. */
  scatterAdd: { code: 145, family: 'gather', inputs: 2, outputs: 1, attributes: ['u32', 'u32'], dtypes: 'number' },

  /**
   * [x, ok bool []] → x. Where ok is false, the result is poisoned with the reason, an index into `REASONS`: how a
   * condition that only the device knows becomes an error, without a read inside the step.
   */
  require: { code: 146, family: 'gather', inputs: 2, outputs: 1, attributes: ['u32'], dtypes: 'any' },

  // Optimisers. squaredNorm: Σ over all inputs of x², rank 0.
  squaredNorm: { code: 152, family: 'optim', inputs: [1, MANY], outputs: 1, attributes: [], dtypes: 'float' },
  /**
   * [param slab, momentum slab | none, steps i32 [P], scale [] | none, ok bool [] | none, …gradients];
   * attributes lr, momentum, dampening, weightDecay, nesterov, segments (parameter index and slab offset for each gradient).
   */
  sgd: {
    code: 153,
    family: 'optim',
    inputs: [6, MANY],
    outputs: 0,
    attributes: ['scalar', 'f64', 'f64', 'f64', 'u32', 'u32s'],
    dtypes: 'float',
    mutates: [0, 1, 2],
  },
  /**
   * [param slab, m slab, v slab, greatest v slab | none (amsgrad), steps i32 [P], scale [] | none, ok bool [] | none,
   * …gradients]; attributes lr, beta1, beta2, eps, weightDecay, decoupled (1: AdamW), segments as for sgd.
   */
  adam: {
    code: 154,
    family: 'optim',
    inputs: [8, MANY],
    outputs: 0,
    attributes: ['scalar', 'f64', 'f64', 'f64', 'f64', 'u32', 'u32s'],
    dtypes: 'float',
    mutates: [0, 1, 2, 3, 4],
  },
  /**
   * [param slab, v slab, mean slab | none (centered), velocity slab | none (momentum), steps i32 [P], scale [] | none,
   * ok bool [] | none, …gradients]; attributes lr, alpha, eps, weightDecay, momentum, segments as for sgd.
   */
  rmsprop: {
    code: 155,
    family: 'optim',
    inputs: [8, MANY],
    outputs: 0,
    attributes: ['scalar', 'f64', 'f64', 'f64', 'f64', 'u32s'],
    dtypes: 'float',
    mutates: [0, 1, 2, 3, 4],
  },
  /**
   * [average slab, steps i32 [P], scale [] | none, ok bool [] | none, …values]; attributes weight of the new value (the
   * first one of a parameter has weight 1), segments as for sgd.
   */
  ema: {
    code: 156,
    family: 'optim',
    inputs: [5, MANY],
    outputs: 0,
    attributes: ['scalar', 'u32s'],
    dtypes: 'float',
    mutates: [0, 1],
  },

  /**
   * Uniform in [0, 1): element i of row r is (w >> 8)·2⁻²⁴, w being lane i mod 4 of the Philox 4x32-10 block with
   * counter (⌊i / 4⌋, row base + r, site, draw) and key (seed low, seed high). Attributes inner (elements of a row; the
   * result is whole rows), seed low, seed high, site, draw, row base: scalars, so that every draw is the same program.
   */
  uniform: {
    code: 160,
    family: 'random',
    inputs: 0,
    outputs: 1,
    attributes: ['u32', 'scalar', 'scalar', 'scalar', 'scalar', 'scalar'],
    dtypes: 'float',
  },
  /**
   * x where (w >> 8) ≥ threshold, times the scale, else 0; w are the words that `uniform` makes its numbers of. Applied to
   * dy it is its own gradient. Attributes inner, threshold (at most 2²⁴), scale, then as `uniform` from seed low on.
   */
  dropout: {
    code: 161,
    family: 'random',
    inputs: 1,
    outputs: 1,
    attributes: ['u32', 'u32', 'f64', 'scalar', 'scalar', 'scalar', 'scalar', 'scalar'],
    dtypes: 'float',
  },

  // Normalisation of rows. x is [outer, groups, channels, inner] (groups and inner are 1 where they are no attributes),
  // a row is channels · inner neighbours of it; weight and bias have groups · channels elements in any shape.
  /** [x, weight | none, bias | none] → y, mean [rows], 1/√(variance + eps) [rows]; attributes outer, channels, eps. */
  layerNorm: { code: 168, family: 'norm', inputs: 3, outputs: 3, attributes: ['u32', 'u32', 'f64'], dtypes: 'float' },
  /**
   * [dy, x, weight | none, mean, scale] → the wanted of dx, dweight, dbias, in this order; attributes outer, channels,
   * wanted (1 dx, 2 dweight, 4 dbias). There is no dweight without a weight.
   */
  layerNormGrad: { code: 169, family: 'norm', inputs: 5, outputs: [1, 3], attributes: THREE, dtypes: 'float' },
  /** As layerNorm, with attributes outer, groups, channels, inner, eps. */
  groupNorm: {
    code: 170,
    family: 'norm',
    inputs: 3,
    outputs: 3,
    attributes: ['u32', 'u32', 'u32', 'u32', 'f64'],
    dtypes: 'float',
  },
  /** As layerNormGrad, with attributes outer, groups, channels, inner, wanted. */
  groupNormGrad: {
    code: 171,
    family: 'norm',
    inputs: 5,
    outputs: [1, 3],
    attributes: ['u32', 'u32', 'u32', 'u32', 'u32'],
    dtypes: 'float',
  },
  /** [x, weight | none] → y, 1/√(mean of x² + eps) [rows]; attributes outer, channels, eps. */
  rmsNorm: { code: 172, family: 'norm', inputs: 2, outputs: 2, attributes: ['u32', 'u32', 'f64'], dtypes: 'float' },
  /** [dy, x, weight | none, scale] → the wanted of dx, dweight; attributes outer, channels, wanted (1 dx, 2 dweight). */
  rmsNormGrad: { code: 173, family: 'norm', inputs: 4, outputs: [1, 2], attributes: THREE, dtypes: 'float' },

  // Batch normalisation of x seen as [outer, channels, inner]; attributes outer, channels, inner. A mask is bool with
  // outer · inner elements: what it leaves out is not looked at, and 0 in results of x's shape.
  /** [x, mask | none] → count [], mean [channels], M2 = Σ(x − mean)² [channels]; of nothing all are 0. */
  batchNormStatistics: { code: 176, family: 'batchNorm', inputs: 2, outputs: 3, attributes: THREE, dtypes: 'float' },
  /** [M2, count []] → the biased variance M2/count, of nothing 0, and 1/√(variance + eps); attribute eps. */
  batchNormVariance: { code: 177, family: 'batchNorm', inputs: 2, outputs: 2, attributes: ['f64'], dtypes: 'float' },
  /** [x, mean, istd, weight | none, bias | none, mask | none] → (x − mean)·istd·weight + bias. */
  batchNorm: { code: 178, family: 'batchNorm', inputs: 6, outputs: 1, attributes: THREE, dtypes: 'float' },
  /** [dy, x, mean, istd, mask | none] → Σdy and Σdy·x̂ of each channel, x̂ = (x − mean)·istd. */
  batchNormGradSums: { code: 179, family: 'batchNorm', inputs: 5, outputs: 2, attributes: THREE, dtypes: 'float' },
  /** [dy, x, mean, istd, weight | none, Σdy, Σdy·x̂, count [], mask | none] → dx = weight·istd·(dy − Σdy/count − x̂·Σdy·x̂/count). */
  batchNormGrad: { code: 180, family: 'batchNorm', inputs: 9, outputs: 1, attributes: THREE, dtypes: 'float' },
  /**
   * [running mean, running variance, updates i32 [] | none, mean, biased variance, count [], ok bool [] | none];
   * attributes momentum, cumulative (0 or 1), unbiased (0 or 1). updates += 1, then r ← r + f·(new − r) with f = momentum,
   * or 1/updates where cumulative.
   */
  batchNormUpdate: {
    code: 181,
    family: 'batchNorm',
    inputs: 7,
    outputs: 0,
    attributes: ['scalar', 'u32', 'u32'],
    dtypes: 'float',
    mutates: [0, 1, 2],
  },
} as const satisfies Record<string, Opcode>

/** The name of an instruction. */
export type OpcodeName = keyof typeof OPCODES

/** Names by number, for decoders. */
export const OPCODE_NAMES: ReadonlyMap<number, OpcodeName> = new Map(
  Object.entries(OPCODES).map(([name, row]) => [row.code, name as OpcodeName]),
)
