/**
 * What the words of a program stand for beside opcodes: the absent input, element types, activations, and the lists of texts
 * that an attribute is a position in. The numbers are fixed, since Rust has the same ones; the instructions themselves are in
 * `opcodes.ts`, how words are written and read in `code.ts` and `decode.ts`.
 */

/** The word of an absent input. */
export const NONE = 0xffff_ffff

/** First word of every stream: "TGL1". */
export const MAGIC = 0x5447_4c31

/** Numbers of the activations `linear` can fuse; the attribute `activation` of `linear` and `linearGrad`. */
export const ACTIVATION_CODES = {
  none: 0,
  relu: 1,
  leakyRelu: 2,
  elu: 3,
  sigmoid: 4,
  tanh: 5,
  silu: 6,
  softplus: 7,
  heaviside: 8,
  gelu: 9,
  geluTanh: 10,
} as const

/**
 * What `require` may find, and for which operation: its attribute is a position in this list. Rust has the same texts (`Reason` in
 * `crate/src/program/op/reason.rs`). New ones go to the end.
 */
export const REASONS = [
  'crossEntropy: nothing is counted: every item is masked or ignored',
  'nll: nothing is counted: every item is masked or ignored',
  'mse: nothing is counted: every item is masked or ignored',
  'mae: nothing is counted: every item is masked or ignored',
  'huber: nothing is counted: every item is masked or ignored',
  'bceWithLogits: nothing is counted: every item is masked or ignored',
  'clipGradNorm: a gradient is not finite',
  'GradientAccumulator: a gradient of the window is not finite',
  'batchNorm: more than 1 value per channel needed in training: a channel has fewer active ones',
] as const

/**
 * What an index out of range is called in the error, by the operation that it was given to: the attribute `of` of `gather` and
 * `scatterAdd` is a position in this list. Rust has the same texts (`Indexed` in `crate/src/program/op/reason.rs`). New ones go to the end.
 */
export const INDEXED = ['index', 'embedding: index', 'oneHot: index', 'nll: target', 'crossEntropy: target'] as const

/** Numbers of the element types in a stream. */
export const DTYPE_CODES = { f32: 0, i32: 1, bool: 2, f64: 3 } as const
