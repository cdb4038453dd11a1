/** Groups: settings of their own, schedules of their own, one state for all, and what is refused. */

import { type Device, Parameter, type Tensor, compile, nn, ones, optim, tensor } from '../../ts/index.ts'
import { onDevices } from '../helpers/devices.ts'
import { codeOf } from '../helpers/errors.ts'
import { random, values } from '../helpers/values.ts'

function parameter(size: number, seed: number, device: Device): Parameter {
  return new Parameter(random([size], { seed }), { device })
}

function feed(parameters: readonly Tensor[], step: number): void {
  for (const [i, p] of parameters.entries()) p.grad = tensor(random([p.size], { seed: 100 * step + i }), { device: p.device }) // prettier-ignore
}

/** Two groups in one optimiser, and the same as two optimisers. */
const MAKERS: [string, (a: Tensor, b: Tensor) => optim.Optimizer, (p: Tensor, second: boolean) => optim.Optimizer][] = [
  [
    'SGD',
    (a, b) =>
      new optim.SGD(
        [
          { params: [a], momentum: 0 },
          { params: [b], lr: (s) => 0.1 / (s + 1), weightDecay: 0.2 },
        ],
        {
          lr: 0.05,
          momentum: 0.9,
        },
      ),
    (p, second) =>
      new optim.SGD([p], second ? { lr: (s) => 0.1 / (s + 1), momentum: 0.9, weightDecay: 0.2 } : { lr: 0.05 }),
  ],
  [
    'AdamW',
    (a, b) =>
      new optim.AdamW(
        [
          { params: a, weightDecay: 0 },
          { params: [b], lr: 0.5, amsgrad: true },
        ],
        { lr: 0.01 },
      ),
    (p, second) => new optim.AdamW([p], second ? { lr: 0.5, amsgrad: true } : { lr: 0.01, weightDecay: 0 }),
  ],
  [
    'Adam',
    (a, b) => new optim.Adam([{ params: [a] }, { params: [b], betas: [0.5, 0.6], eps: 1e-3 }], { weightDecay: 0.1 }),
    (p, second) =>
      new optim.Adam([p], second ? { betas: [0.5, 0.6], eps: 1e-3, weightDecay: 0.1 } : { weightDecay: 0.1 }),
  ],
  [
    'RMSprop',
    (a, b) =>
      new optim.RMSprop([
        { params: [a], centered: true },
        { params: [b], alpha: 0.5, momentum: 0.5 },
      ]),
    (p, second) => new optim.RMSprop([p], second ? { alpha: 0.5, momentum: 0.5 } : { centered: true }),
  ],
]

for (const [name, together, alone] of MAKERS) {
  onDevices(
    `${name}: a group is what an optimiser with its settings would be, eager and compiled`,
    async (t, device) => {
      for (const compiled of [false, true]) {
        const [a, b, c, d] = [1, 2, 1, 2].map((seed) => parameter(70, seed, device)) as [Tensor, Tensor, Tensor, Tensor]
        const one = together(a, b)
        const two = [alone(c, false), alone(d, true)]
        t.deepEqual(one.groups.map(({ parameters }) => parameters), [[a], [b]]) // prettier-ignore
        const step = compiled ? compile(() => one.step()) : () => one.step()
        for (let s = 0; s < 4; s++) {
          feed([a, b], s)
          feed([c, d], s)
          step()
          for (const optimizer of two) optimizer.step()
        }
        t.deepEqual([await values(a), await values(b)], [await values(c), await values(d)])
        const states = await Promise.all(two.map((optimizer) => optimizer.stateDict()))
        t.deepEqual((await one.stateDict()).groups, states.flatMap(({ groups }) => groups)) // prettier-ignore
      }
    },
  )

  onDevices(`${name}: a state with groups restores all of them, or changes nothing`, async (t, device) => {
    const run = async (interrupted: boolean): Promise<unknown> => {
      let [a, b] = [parameter(3, 1, device), parameter(65, 2, device)]
      let one = together(a, b)
      for (let s = 0; s < 6; s++) {
        if (s === 3 && interrupted) {
          const state = structuredClone(await one.stateDict())
          const saved = [await values(a), await values(b)] as const
          ;[a, b] = [new Parameter(saved[0], { device }), new Parameter(saved[1], { device })]
          // Groups in another order are other parameters.
          t.is(codeOf(() => together(b, a).loadStateDict(state)), 'ERR_FORMAT') // prettier-ignore
          one = together(a, b)
          const before = await one.stateDict()
          const wrong = { ...state, groups: [state.groups[0]!, { ...state.groups[1]!, parameters: [] }] }
          t.is(codeOf(() => one.loadStateDict(wrong)), 'ERR_FORMAT') // prettier-ignore
          t.deepEqual(await one.stateDict(), before)
          one.loadStateDict(state)
        }
        feed([a, b], s)
        one.step()
      }
      return [await values(a), await values(b), await one.stateDict()]
    }
    t.deepEqual(await run(true), await run(false))
  })
}

onDevices('a learning rate is read and set group by group, or for all', async (t, device) => {
  const [a, b] = [new Parameter([0], { device }), new Parameter([0], { device })]
  const sgd = new optim.SGD([{ params: [a] }, { params: [b], lr: 2, momentum: undefined as never }], { lr: 1 })
  const lrs = (): number[] => sgd.groups.map(({ lr }) => lr)
  t.deepEqual([...lrs(), sgd.lr], [1, 2, 1])
  sgd.groups[1]!.lr = (s) => 4 + s
  t.deepEqual(lrs(), [1, 4])
  const step = compile(() => sgd.step())
  const go = (): void => {
    for (const p of [a, b]) p.grad = tensor([-1], { device })
    step()
  }
  go()
  t.deepEqual([...(await values(a)), ...(await values(b))], [1, 4])
  t.deepEqual(lrs(), [1, 5])
  sgd.lr = 8
  go()
  t.deepEqual([...(await values(a)), ...(await values(b))], [9, 12])
  t.is(step.stats().recordings, 1)
  t.is(
    codeOf(() => (sgd.groups[0]!.lr = -1)),
    'ERR_ARGUMENT',
  )
  t.deepEqual(lrs(), [8, 8])
})

onDevices('a restored schedule says the rate of the step it goes on with', async (t, device) => {
  const make = (): optim.SGD => new optim.SGD([parameter(2, 1, device)], { lr: optim.exponential(1, 0.5) })
  const [saved, other] = [make(), make()]
  for (let s = 0; s < 3; s++) saved.step()
  other.loadStateDict(await saved.stateDict())
  t.deepEqual([other.lr, other.groups[0]!.lr, (await other.stateDict()).groups[0]!.lr], [0.125, 0.125, 0.125])
})

onDevices('a rate that is none stops the step of all groups', async (t, device) => {
  const [a, b] = [parameter(2, 1, device), parameter(2, 2, device)]
  const sgd = new optim.SGD([{ params: [a] }, { params: [b], lr: () => Number.NaN }], { lr: (s) => 1 + s })
  feed([a, b], 0)
  const before = [await values(a), await values(b)]
  t.is(codeOf(() => sgd.step()), 'ERR_ARGUMENT') // prettier-ignore
  t.deepEqual([await values(a), await values(b)], before)
  t.is(sgd.lr, 1, 'no group has gone a step further')
  sgd.groups[1]!.lr = 1
  t.is((await sgd.stateDict()).step, 0)
})

onDevices('groups can be added until the first step', async (t, device) => {
  const [a, b, c] = [1, 2, 3].map((seed) => parameter(4, seed, device)) as [Parameter, Parameter, Parameter]
  const sgd = new optim.SGD([a], { lr: 1, momentum: 0.5 })
  sgd.addGroup({ params: [b], lr: 0.5 })
  t.deepEqual(sgd.parameters, [a, b])
  t.is(codeOf(() => sgd.addGroup({ params: [a] })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => sgd.addGroup({ params: [c], momentum: -1 })), 'ERR_ARGUMENT') // prettier-ignore
  const before = await values(b)
  b.grad = ones([4], { device })
  sgd.step()
  t.deepEqual(await values(b), before.map((x) => Math.fround(x - 0.5))) // prettier-ignore
  t.is(codeOf(() => sgd.addGroup({ params: [c] })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(sgd.groups.length, 2)
})

onDevices('lists that are no groups are refused, and take nothing over', async (t, device) => {
  const [a, b] = [parameter(2, 1, device), parameter(2, 2, device)]
  const first = new optim.SGD([a, b], { lr: 1 })
  const refused = (groups: unknown): string => codeOf(() => new optim.Adam(groups as Tensor[]))
  for (const wrong of [
    [{ params: [a] }, b],
    [{ params: [a] }, { params: [a] }],
    [{ params: [a] }, { params: [b], lr: -1 }],
    [{ params: [a] }, { params: [b], betas: [0.9] }],
    [{ params: [a] }, { params: 3 }],
    [{ params: [a] }, { params: [3] }],
    [{ params: [] }],
    [{ lr: 1 }],
    [],
    null,
    a,
  ])
    t.is(refused(wrong), 'ERR_ARGUMENT')
  feed([a, b], 1)
  first.step()
  t.deepEqual((await first.stateDict()).step, 1)
  // A group may be empty as long as another is not.
  t.is(new optim.Adam([{ params: [] }, { params: [a] }]).groups.length, 2)
})

onDevices('a group may hold parameters of several devices', async (t, device) => {
  const { openDevice } = await import('../helpers/open.ts')
  const js = await openDevice('js')
  const [a, b, c] = [parameter(2, 1, js), parameter(2, 2, device), parameter(2, 3, js)]
  const sgd = new optim.SGD([{ params: [a, b, c] }], { lr: 1 })
  t.deepEqual(sgd.parameters, [a, b, c])
  const before = await Promise.all([a, b, c].map(values))
  for (const p of [a, b, c]) p.grad = ones([2], { device: p.device })
  sgd.step()
  t.deepEqual(await Promise.all([a, b, c].map(values)), before.map((x) => x.map((v) => Math.fround(v - 1)))) // prettier-ignore
  t.deepEqual((await sgd.stateDict()).groups[0]!.parameters.map(({ shape, step }) => [shape, step]), [[[2], 1], [[2], 1], [[2], 1]]) // prettier-ignore
  await js.close()
})

onDevices('the helper parts what decays from biases, norms and names of your own', (t, device) => {
  class Norm extends nn.LayerNorm {}
  class Model extends nn.Module {
    embedding = new nn.Linear(3, 3, { bias: false, device })
    // Told by what it is: a weight of two dimensions, behind a name that says nothing.
    inner = new nn.Sequential(new Norm([2, 3], { device }))
    // And a name that says too much.
    norm = new nn.Linear(2, 3, { bias: false, device })
    others = [new nn.BatchNorm(2, { device }), new nn.GroupNorm(1, 2, { device }), new nn.RMSNorm([2, 2], { device })]
    layers = [new nn.Linear(3, 4, { device }), new nn.Linear(4, 2, { device })]
    scale = new Parameter([1], { device })
    frozen = new Parameter([[1]], { device })
    override forward(x: Tensor): Tensor {
      return this.inner.forward(x)
    }
  }
  const model = new Model()
  model.frozen.requiresGrad = false
  const names = new Map<Tensor, string>([...model.namedParameters()].map(([name, p]) => [p, name]))
  const parted = (options?: optim.NoDecayOptions): unknown =>
    optim.noDecayOnBiasAndNorm(model, options).map(({ params, ...rest }) => [params.map((p) => names.get(p)), rest])
  const others = [
    'inner.0.weight',
    'inner.0.bias',
    'others.0.weight',
    'others.0.bias',
    'others.1.weight',
    'others.1.bias',
    'others.2.weight',
    'layers.0.bias',
    'layers.1.bias',
    'scale',
  ]
  t.deepEqual(parted({ weightDecay: 0.05 }), [
    [['embedding.weight', 'norm.weight', 'layers.0.weight', 'layers.1.weight'], { weightDecay: 0.05 }],
    [others, { weightDecay: 0 }],
  ])
  for (const noDecay of [/^embedding\./, ['embedding.weight']]) {
    t.deepEqual(parted({ noDecay }), [
      [['norm.weight', 'layers.0.weight', 'layers.1.weight'], {}],
      [['embedding.weight', ...others], { weightDecay: 0 }],
    ])
  }
  t.deepEqual(new optim.AdamW(optim.noDecayOnBiasAndNorm(model)).groups.length, 2)
  const bare = new nn.Linear(2, 2, { bias: false, device })
  t.is(optim.noDecayOnBiasAndNorm(bare).length, 1)
  t.is(codeOf(() => optim.noDecayOnBiasAndNorm(model, { noDecay: ['missing'] })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => optim.noDecayOnBiasAndNorm(model, { weightDecay: -1 })), 'ERR_ARGUMENT') // prettier-ignore
  t.is(codeOf(() => optim.noDecayOnBiasAndNorm(model.parameters() as never)), 'ERR_ARGUMENT') // prettier-ignore
})
