/** What the agent does when it is told to stop: only a removal may leave nothing behind. */
import t from 'tap'
import { decideEnding, type Ending, type OwnDaemonSet } from '../../daemonset/cni-install/own-daemonset.ts'

const found: OwnDaemonSet = { kind: 'found', going: false, nodeSelector: {}, nodeLabels: { zone: 'a' } }
const missing: OwnDaemonSet = { kind: 'missing' }
const forbidden: OwnDaemonSet = { kind: 'refused', status: 403 }

const situations: readonly {
  name: string
  now: OwnDaemonSet
  before?: OwnDaemonSet
  expect: Ending['kind']
  why: RegExp
}[] = [
  { name: 'an upgrade or a reboot', now: found, expect: 'comes back', why: /wants it on this node/ },
  { name: 'a DaemonSet that is gone', now: missing, expect: 'is removed', why: /is gone/ },
  { name: 'one that is being deleted', now: { ...found, going: true }, expect: 'is removed', why: /deleted/ },
  {
    name: 'one that does not want this node any more',
    now: { ...found, nodeSelector: { zone: 'b' } },
    expect: 'is removed',
    why: /nodes with zone=b only/
  },
  {
    name: 'one whose selector the node has',
    now: { ...found, nodeSelector: { zone: 'a' } },
    expect: 'comes back',
    why: /wants it/
  },
  {
    name: 'an account that is gone',
    now: { kind: 'refused', status: 401 },
    expect: 'is removed',
    why: /account/
  },
  { name: 'a permission that went', now: forbidden, expect: 'is removed', why: /permissions are gone/ },
  {
    name: 'a permission that never was',
    now: forbidden,
    before: forbidden,
    expect: 'comes back',
    why: /get daemonsets/
  },
  {
    name: 'a name that never was right',
    now: missing,
    before: missing,
    expect: 'comes back',
    why: /not found at its start/
  },
  {
    name: 'an API server that is not there',
    now: { kind: 'unknown', problem: 'connect ECONNREFUSED' },
    expect: 'comes back',
    why: /ECONNREFUSED/
  }
]

for (const { name, now, before = found, expect, why } of situations) {
  t.test(`${name}: the agent ${expect}`, async t => {
    t.match(decideEnding(now, before), { kind: expect, why })
  })
}

t.test('what was not known at the start permits nothing', async t => {
  t.match(decideEnding(forbidden, undefined), { kind: 'comes back' })
})
