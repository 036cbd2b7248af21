/** Istio's programs and ours under our control plane; `UNDERPASS_MATRIX=5` runs one row only. */
import t from 'tap'
import { clusterMissing } from '../support/cluster.ts'
import { testRows } from './matrix-rows.ts'

t.test('every part beside its counterpart, under our control plane', { skip: clusterMissing() }, async t => {
  await testRows(t, [
    { number: 5, controlPlane: 'ours', nodeAgent: 'istio-cni', ztunnel: { node1: 'Rust', node2: 'ours' } },
    { number: 6, controlPlane: 'ours', nodeAgent: 'ours', ztunnel: { node1: 'ours', node2: 'ours' } }
  ])
})
