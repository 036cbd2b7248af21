/** Each of our programs in the place of Istio's under istiod; `UNDERPASS_MATRIX=1,4` runs some rows only. */
import t from 'tap'
import { clusterMissing } from '../support/cluster.ts'
import { testRows } from './matrix-rows.ts'

/** In an order in which little changes from one to the next. */
t.test('every part beside its counterpart, under istiod', { skip: clusterMissing() }, async t => {
  await testRows(t, [
    { number: 3, controlPlane: 'istiod', nodeAgent: 'ours', ztunnel: { node1: 'ours', node2: 'ours' } },
    { number: 4, controlPlane: 'istiod', nodeAgent: 'ours', ztunnel: { node1: 'Rust', node2: 'Rust' } },
    { number: 1, controlPlane: 'istiod', nodeAgent: 'istio-cni', ztunnel: { node1: 'ours', node2: 'Rust' } },
    { number: 2, controlPlane: 'istiod', nodeAgent: 'istio-cni', ztunnel: { node1: 'Rust', node2: 'ours' } }
  ])
})
