import t from 'tap'
import type { Workload } from '../../shared/mesh/model.ts'
import { LocalIdentities } from '../../ztunnel/local-identities.ts'

const base = {
  uid: '1',
  node: 'here',
  protocol: 'HBONE',
  nativeTunnel: false,
  trustDomain: 'td',
  namespace: 'ns',
  serviceAccount: 'a'
} as Workload
const a = 'spiffe://td/ns/ns/sa/a'
const b = 'spiffe://td/ns/ns/sa/b'

const situations: readonly {
  name: string
  changes: [Workload | undefined, Workload | undefined][]
  calls: string[]
}[] = [
  {
    name: 'the first workload of an identity fetches it',
    changes: [[undefined, base]],
    calls: [`prefetch ${a}`]
  },
  {
    name: 'the second does not',
    changes: [
      [undefined, base],
      [undefined, { ...base, uid: '2' }]
    ],
    calls: [`prefetch ${a}`]
  },
  {
    name: 'a change that keeps the identity does nothing',
    changes: [
      [undefined, base],
      [base, { ...base, name: 'new' }]
    ],
    calls: [`prefetch ${a}`]
  },
  {
    name: 'a new identity comes before the old one goes',
    changes: [
      [undefined, base],
      [base, { ...base, serviceAccount: 'b' }]
    ],
    calls: [`prefetch ${a}`, `prefetch ${b}`, `forget ${a}`]
  },
  {
    name: 'the last one to go drops it',
    changes: [
      [undefined, base],
      [undefined, { ...base, uid: '2' }],
      [base, undefined],
      [{ ...base, uid: '2' }, undefined]
    ],
    calls: [`prefetch ${a}`, `forget ${a}`]
  },
  { name: 'other nodes are not ours', changes: [[undefined, { ...base, node: 'there' }]], calls: [] },
  {
    name: 'a workload without HBONE needs none',
    changes: [[undefined, { ...base, protocol: 'TCP' }]],
    calls: []
  },
  {
    name: 'one that ends tunnels itself does',
    changes: [[undefined, { ...base, protocol: 'TCP', nativeTunnel: true }]],
    calls: [`prefetch ${a}`]
  },
  {
    name: 'one that moves away is dropped',
    changes: [
      [undefined, base],
      [base, { ...base, node: 'there' }]
    ],
    calls: [`prefetch ${a}`, `forget ${a}`]
  }
]
for (const { name, changes, calls } of situations) {
  t.test(name, async t => {
    const seen: string[] = []
    const identities = new LocalIdentities({
      nodeName: 'here',
      certificates: { prefetch: id => seen.push(`prefetch ${id}`), forget: id => seen.push(`forget ${id}`) }
    })
    for (const [previous, current] of changes) identities.changed(previous, current)
    t.strictSame(seen, calls)
  })
}

t.test('without a node name nothing is fetched ahead', async t => {
  const identities = new LocalIdentities({
    nodeName: '',
    certificates: { prefetch: () => t.fail('fetched'), forget: () => t.fail('forgot') }
  })
  identities.changed(undefined, { ...base, node: '' })
  t.pass()
})
