/** The node agent and our ztunnel, every way of capturing. */
import t from 'tap'
import { needsRoot } from '../support/namespaces.ts'
import { provePair } from './agent-pair.ts'

t.setTimeout(300_000)

for (const method of [
  { backend: 'nft', mode: 'tproxy' },
  { backend: 'iptables', mode: 'redirect' }
] as const) {
  t.test(`our ztunnel, ${method.mode} by ${method.backend}`, { skip: needsRoot() }, async t =>
    provePair(t, { method, ztunnel: 'underpass' })
  )
}
