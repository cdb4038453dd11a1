/** Modules and parameters in arrays: found, named and switched like those in fields of their own. */

import test from 'ava'
import { Parameter, type Tensor, nn, openDevice, zeros } from '../../ts/index.ts'

const device = await openDevice('js')
test.after.always('the device closes', () => device.close())

class Stack extends nn.Module {
  readonly layers = [new nn.Linear(2, 3, { device }), new nn.Linear(3, 1, { device, bias: false })]
  readonly scales = [new Parameter([1], { device })]
  readonly seen: Tensor[] = [zeros([1], { device })]

  forward(x: Tensor): Tensor {
    return this.layers.reduce((y, layer) => layer.forward(y), x).mul(this.scales[0]!)
  }
}

test('names follow field and position', (t) => {
  const model = new Stack()
  t.deepEqual([...model.namedParameters().keys()], ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'scales.0'])
  t.deepEqual([...model.children().keys()], ['layers.0', 'layers.1'])
  t.is(model.buffers().size, 0)
})

test('the mode reaches modules in arrays', (t) => {
  const model = new Stack().eval()
  t.deepEqual(
    model.layers.map((layer) => layer.training),
    [false, false],
  )
})

test('a state goes from one model to another', async (t) => {
  const [from, to] = [new Stack(), new Stack()]
  to.loadStateDict(await from.stateDict())
  t.deepEqual([...(await to.layers[1]!.weight.data())], [...(await from.layers[1]!.weight.data())])
})
