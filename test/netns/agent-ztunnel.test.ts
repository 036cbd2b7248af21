/** The node agent and our ztunnel, every way of capturing. */
import t from 'tap'
import { needsRoot } from '../support/namespaces.ts'
import { provePair } from './agent-pair.ts'

for (const method of [
  { backend: 'nft', mode: 'tproxy' },
  { backend: 'iptables', mode: 'redirect' }
] as const) {
  t.test(
    `our ztunnel, ${method.mode} by ${method.backend}`,
    { skip: needsRoot(), timeout: 120_000 },
    async t => provePair(t, { method, ztunnel: 'underpass' })
  )
}
