/**
 * Writes ONNX models, as far as the benchmarks need them: nodes, f32 initialisers, f32 inputs and outputs. The field
 * numbers are those of onnx.proto.
 */

/** A node: operator, names of inputs and outputs, integer attributes. */
export interface OnnxNode {
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, number>>
}

/** A graph to be written. */
export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[]
  readonly constants?: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>
  readonly inputs: Readonly<Record<string, readonly number[]>>
  readonly outputs: Readonly<Record<string, readonly number[]>>
  /** Version of the operators. Default 17. */
  readonly opset?: number
}

const FLOAT = 1
const INT_ATTRIBUTE = 2

/** The bytes of a model. */
export function onnxModel(graph: OnnxGraph): Uint8Array {
  const body = [
    ...graph.nodes.map((node) =>
      message(1, [
        ...node.inputs.map((name) => text(1, name)),
        ...node.outputs.map((name) => text(2, name)),
        text(4, node.op),
        ...Object.entries(node.attributes ?? {}).map(([name, value]) =>
          message(5, [text(1, name), number(3, value), number(20, INT_ATTRIBUTE)]),
        ),
      ]),
    ),
    text(2, 'bench'),
    ...Object.entries(graph.constants ?? {}).map(([name, { shape, data }]) =>
      message(5, [
        ...shape.map((d) => number(1, d)),
        number(2, FLOAT),
        text(8, name),
        bytes(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
      ]),
    ),
    ...Object.entries(graph.inputs).map(([name, shape]) => valueInfo(11, name, shape)),
    ...Object.entries(graph.outputs).map(([name, shape]) => valueInfo(12, name, shape)),
  ]
  return Buffer.concat([number(1, 8), message(7, body), message(8, [text(1, ''), number(2, graph.opset ?? 17)])])
}

function valueInfo(field: number, name: string, shape: readonly number[]): Buffer {
  const dims = shape.map((d) => message(1, [number(1, d)]))
  return message(field, [text(1, name), message(2, [message(1, [number(1, FLOAT), message(2, dims)])])])
}

function varint(value: number): Buffer {
  if (value < 0) {
    // Negative integers are written as 64-bit two's complement.
    let rest = BigInt.asUintN(64, BigInt(value))
    const out: number[] = []
    for (; rest > 0x7fn; rest >>= 7n) out.push(Number(rest & 0x7fn) | 0x80)
    return Buffer.from([...out, Number(rest)])
  }
  const out: number[] = []
  let rest = value
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) out.push((rest % 128) | 0x80)
  return Buffer.from([...out, rest])
}

function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)])
}

function bytes(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value])
}

function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value))
}

function message(field: number, parts: readonly Buffer[]): Buffer {
  return bytes(field, Buffer.concat(parts))
}
