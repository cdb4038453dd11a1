/** squeeze, unsqueeze, stack, split and oneHot: they only move elements, so every result is exact, also compiled. */

import test from 'ava'
import {
  type Dtype,
  type Tensor,
  compile,
  concat,
  grad,
  oneHot,
  split,
  squeeze,
  stack,
  tensor,
  unsqueeze,
  zeros,
} from '../../ts/index.ts'
import { random, upload } from '../helpers/data.ts'
import { JS, onDevices } from '../helpers/devices.ts'
import { codeOf, rejectionOf } from '../helpers/errors.ts'
import { gradcheck } from '../helpers/gradcheck.ts'
import { values } from '../helpers/values.ts'

const DTYPES: readonly Dtype[] = ['f32', 'i32', 'bool']

onDevices('squeeze and unsqueeze change the shape alone, and undo each other', async (t, device) => {
  for (const dtype of DTYPES) {
    for (const shape of [[], [1], [0], [3], [1, 0, 1], [2, 1, 5], [1, 257]]) {
      const x = upload(random(dtype, shape), device)
      for (let axis = -shape.length - 1; axis <= shape.length; axis++) {
        const wide = unsqueeze(x, axis)
        const at = axis < 0 ? axis + shape.length + 1 : axis
        t.deepEqual([...wide.shape], shape.toSpliced(at, 0, 1))
        t.deepEqual([...squeeze(wide, axis).shape], shape)
        t.deepEqual(await values(squeeze(wide, at)), await values(x))
      }
      t.deepEqual([...x.squeeze().shape], shape.filter((d) => d !== 1)) // prettier-ignore
    }
  }
  t.deepEqual(zeros([1, 2, 1, 1], { device }).squeeze([0, -1]).shape, [2, 1])
})

onDevices('stack puts tensors side by side on a new axis, and split takes them apart', async (t, device) => {
  for (const dtype of DTYPES) {
    for (const shape of [[], [0], [1], [7], [2, 3], [16, 17]]) {
      const list = [1, 2, 3].map((salt) => upload(random(dtype, shape, { salt }), device))
      for (let axis = -shape.length - 1; axis <= shape.length; axis++) {
        const joined = stack(list, axis)
        const at = axis < 0 ? axis + shape.length + 1 : axis
        t.deepEqual([...joined.shape], shape.toSpliced(at, 0, 3))
        t.is(joined.dtype, dtype)
        for (const [i, piece] of split(joined, 3, at).entries())
          t.deepEqual(await values(piece.squeeze(at)), await values(list[i]))
      }
    }
  }
  t.deepEqual(await stack([tensor([1, 2], { device }), tensor([3, 4], { device })], 1).array(), [[1, 3], [2, 4]]) // prettier-ignore
})

onDevices('split cuts by number and by sizes, empty pieces among them', async (t, device) => {
  const x = upload(random('f32', [3, 7]), device)
  const pieces = x.split([0, 2, 5, 0], 1)
  t.deepEqual(pieces.map((p) => [...p.shape]), [[3, 0], [3, 2], [3, 5], [3, 0]]) // prettier-ignore
  t.deepEqual(await values(concat(pieces, -1)), await values(x))
  t.deepEqual(split(x, 3).map((p) => [...p.shape]), [[1, 7], [1, 7], [1, 7]]) // prettier-ignore
  t.deepEqual(split(x, 1, -1).map((p) => [...p.shape]), [[3, 7]]) // prettier-ignore
  t.deepEqual(split(zeros([0, 2], { device }), 2).map((p) => [...p.shape]), [[0, 2], [0, 2]]) // prettier-ignore
  t.deepEqual(split(zeros([0], { device }), []), [])
})

onDevices('oneHot has a one at each index', async (t, device) => {
  for (const classes of [1, 2, 17, 257]) {
    for (const shape of [[], [0], [1], [13], [2, 3]]) {
      const indices = upload(random('i32', shape, { low: 0, high: classes - 1 }), device)
      const at = await values(indices)
      const want = at.flatMap((i) => Array.from({ length: classes }, (_, c) => +(c === i)))
      for (const dtype of DTYPES) {
        const y = oneHot(indices, classes, { dtype })
        t.is(y.dtype, dtype)
        t.deepEqual([...y.shape], [...shape, classes])
        t.deepEqual(await values(y), want)
      }
      t.is(indices.oneHot(classes).dtype, 'f32')
    }
  }
  t.deepEqual(oneHot(zeros([0], { dtype: 'i32', device }), 0).shape, [0, 0])
})

onDevices('an index that oneHot has no class for fails the read, and what is computed from it', async (t, device) => {
  for (const wrong of [-1, 3, 2 ** 31 - 1]) {
    const y = oneHot(tensor([0, wrong], { dtype: 'i32', device }), 3)
    t.is(await rejectionOf(y.mul(2).sum().item()), 'ERR_ARGUMENT', `${wrong}`)
    t.is(await rejectionOf(y.data()), 'ERR_ARGUMENT', `${wrong}`)
  }
  t.deepEqual(await values(oneHot(tensor([2], { dtype: 'i32', device }), 3)), [0, 0, 1])
})

onDevices('expand keeps a dimension of −1, and refuses one that has no size to keep', async (t, device) => {
  const x = upload(random('f32', [2, 1, 3]), device)
  const y = x.expand([5, -1, 4, -1])
  t.deepEqual([...y.shape], [5, 2, 4, 3])
  t.deepEqual(await values(y), await values(x.expand([5, 2, 4, 3])))
  t.deepEqual(zeros([0, 1], { device }).expand([-1, 7]).shape, [0, 7])
  for (const shape of [[-1, 2, 1, 3], [2, -2, 3], [-1]]) t.is(codeOf(() => x.expand(shape)), 'ERR_SHAPE') // prettier-ignore
})

test('gradients of what is rearranged are slopes', (t) => {
  const [a, b] = [random('f64', [2, 1, 3], { salt: 1 }), random('f64', [2, 1, 3], { salt: 2 })]
  const cases: readonly ((inputs: readonly Tensor[]) => Tensor | readonly Tensor[])[] = [
    ([x]) => squeeze(x!, 1),
    ([x]) => unsqueeze(x!, -2),
    ([x, y]) => stack([x!, y!, x!], 2),
    ([x]) => x!.expand([2, -1, 2, -1]),
    ([x]) => split(x!, [1, 0, 2], -1),
    ([x]) => split(x!, 2).map((p) => p.square()),
  ]
  for (const [i, f] of cases.entries()) {
    for (const path of ['fused', 'decomposed'] as const) t.is(gradcheck(f, [a, b], JS, path), null, `${i} ${path}`)
  }
})

onDevices('compiled, everything that moves elements gives the same', async (t, device) => {
  const x = upload(random('f32', [4, 6], { salt: 4 }), device)
  const f = (v: Tensor): Tensor => {
    const [left, right] = split(v, 2, 1)
    const rows = oneHot(tensor([3, 0], { dtype: 'i32', device }), 4)
    return rows.matmul(stack([left!, right!]).unsqueeze(0).squeeze())
  }
  const slope = (v: Tensor): Tensor => grad((w) => f(w).square().sum())(v)[0]!
  t.deepEqual(await values(compile(f)(x)), await values(f(x)))
  t.deepEqual(await values(compile(slope)(x)), await values(slope(x)))
})

onDevices('what does not fit is refused at once', (t, device) => {
  const f = (...shape: number[]): Tensor => zeros(shape, { device })
  const i = zeros([2], { dtype: 'i32', device })
  const any = (v: unknown): never => v as never
  const misuses: readonly (readonly [string, RegExp, () => unknown])[] = [
    ['ERR_SHAPE', /^squeeze: axis 1 of \[1, 2\] has size 2/, () => squeeze(f(1, 2), 1)],
    ['ERR_SHAPE', /^squeeze: axis 2 is outside/, () => squeeze(f(1, 2), 2)],
    ['ERR_SHAPE', /^unsqueeze: axis 3 is outside/, () => unsqueeze(f(1, 2), 3)],
    ['ERR_SHAPE', /9 dimensions/, () => unsqueeze(f(1, 1, 1, 1, 1, 1, 1, 1), 0)],
    ['ERR_ARGUMENT', /^stack: tensors/, () => stack([])],
    ['ERR_SHAPE', /^stack: \[2\] and \[3\] differ/, () => stack([f(2), f(3)])],
    ['ERR_DTYPE', /^concat: operands are f32 and i32/, () => stack([f(2), i])],
    ['ERR_SHAPE', /^split: axis 0 of \[5\] has no 2 equal pieces/, () => split(f(5), 2)],
    ['ERR_SHAPE', /^split: the sizes \[2, 2\] add up to 4, axis 0 of \[5\] has 5/, () => split(f(5), [2, 2])],
    ['ERR_ARGUMENT', /^split: parts/, () => split(f(5), [6, -1])],
    ['ERR_ARGUMENT', /^split: parts/, () => split(f(5), 0)],
    ['ERR_ARGUMENT', /^split: parts/, () => split(f(0), 1e12)],
    ['ERR_ARGUMENT', /^split: parts/, () => split(f(5), any('2'))],
    ['ERR_DTYPE', /^oneHot: indices are i32, not f32/, () => oneHot(f(2), 3)],
    ['ERR_ARGUMENT', /^oneHot: classes/, () => oneHot(i, -1)],
    ['ERR_ARGUMENT', /^oneHot: classes/, () => oneHot(i, any(undefined))],
    ['ERR_SHAPE', /^oneHot: with 0 classes no index of \[2\] is in range/, () => oneHot(i, 0)],
    ['ERR_DTYPE', /^oneHot: dtype/, () => oneHot(i, 3, { dtype: any('f16') })],
    ['ERR_ARGUMENT', /^oneHot: options/, () => oneHot(i, 3, any('i32'))],
    ['ERR_ARGUMENT', /^pad: paddings/, () => f(2).pad([[-1, 0]])],
  ]
  for (const [code, text, call] of misuses) {
    t.is(codeOf(call), code, String(text))
    t.throws(call, { message: text })
  }
})
