/** The node agent with Istio's ztunnel, whose listeners are transparent, so that TPROXY works with it as well. */
import t from 'tap'
import { needsRoot } from '../support/namespaces.ts'
import { peerProgram } from '../support/two-nodes.ts'
import { provePair } from '../netns/agent-pair.ts'

t.setTimeout(300_000)

const peer = peerProgram('ztunnel')
const skip = 'reason' in peer ? peer.reason : needsRoot()

for (const method of [
  { backend: 'nft', mode: 'tproxy' },
  { backend: 'iptables', mode: 'redirect' }
] as const) {
  const name = `Istio's ztunnel, ${method.mode} by ${method.backend}`
  t.test(name, { skip }, async t => provePair(t, { method, ztunnel: 'rust' }))
}
