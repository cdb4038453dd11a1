/**
 * The WGSL kernel that everybody writes first, on Dawn, in a process of its own: one thread per element of C, operands
 * read from storage as they are needed. The measure of what a tiled kernel gains.
 */

import { numbers, sample } from '../measure.ts'
import { installDawn } from './dawn.ts'
import { type Work, serve } from './serve.ts'

/** Threads of a workgroup along each axis. */
const SIDE = 16

const shader = (n: number) => `
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(${SIDE}, ${SIDE})
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${n}u || id.y >= ${n}u) { return; }
  var sum = 0f;
  for (var k = 0u; k < ${n}u; k++) { sum += a[id.y * ${n}u + k] * b[k * ${n}u + id.x]; }
  c[id.y * ${n}u + id.x] = sum;
}`

function gemm(device: GPUDevice, n: number): Work {
  const buffer = (usage: number) => device.createBuffer({ size: 4 * n * n, usage })
  const [a, b, c] = [
    buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST),
    buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST),
    buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC),
  ] as const
  device.queue.writeBuffer(a, 0, numbers(n * n, 7))
  device.queue.writeBuffer(b, 0, numbers(n * n, 11))
  const pipeline = device.createComputePipeline({
    layout: 'auto',
    compute: { module: device.createShaderModule({ code: shader(n) }) },
  })
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [a, b, c].map((buffer, binding) => ({ binding, resource: { buffer } })),
  })
  const submit = () => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(Math.ceil(n / SIDE), Math.ceil(n / SIDE))
    pass.end()
    device.queue.submit([encoder.finish()])
  }
  return {
    run: async (calls) => {
      for (let i = 0; i < calls; i++) submit()
      await device.queue.onSubmittedWorkDone()
    },
    check: async () => {
      submit()
      const host = buffer(GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ)
      const encoder = device.createCommandEncoder()
      encoder.copyBufferToBuffer(c, 0, host, 0, 4 * n * n)
      device.queue.submit([encoder.finish()])
      await host.mapAsync(GPUMapMode.READ)
      const numbers = sample(new Float32Array(host.getMappedRange()))
      host.destroy()
      return numbers
    },
  }
}

await serve(async () => {
  const { adapter, name } = await installDawn()
  const device = await adapter.requestDevice()
  return { description: `naive WGSL kernel, Dawn on ${name}`, works: { gemm: (n) => gemm(device, n) } }
})
