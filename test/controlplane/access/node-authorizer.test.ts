import t from 'tap'
import { NodeAuthorizer, type Decision } from '../../../controlplane/access/node-authorizer.ts'
import type { Caller } from '../../../controlplane/access/token.ts'
import { spiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { systemClock } from '../../../shared/runtime/clock.ts'
import type { Cluster } from '../../../controlplane/cluster/cluster.ts'
import { object, world } from '../world.ts'

const ztunnel = `
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
kind: Pod
metadata: {name: ztunnel-x, namespace: istio-system, uid: uid-1}
spec: {nodeName: n1, serviceAccountName: ztunnel}
status: {phase: Running}
---
`
const web = (change = '', labels = '{}', annotations = '{}'): string =>
  `kind: Pod\nmetadata: {name: web, labels: ${labels}, annotations: ${annotations}}\nspec: {nodeName: n1, serviceAccountName: web${change}}\nstatus: {phase: Running}\n`

const caller: Caller = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  podName: 'ztunnel-x',
  podUid: 'uid-1'
}
const identity = (namespace = 'shop', serviceAccount = 'web', trustDomain = 'cluster.local'): SpiffeId =>
  spiffeId({ trustDomain, namespace, serviceAccount })

function authorizer(view: Cluster, patienceMs = 0): NodeAuthorizer {
  return new NodeAuthorizer({
    view,
    trusted: new Set(['istio-system/ztunnel']),
    clock: systemClock,
    patienceMs
  })
}

const outcome = (decision: Decision): string => (decision.kind === 'allowed' ? 'allowed' : decision.denial)

t.test('who may have which identity', async t => {
  const plain = ztunnel.replace('istio.io/dataplane-mode: ambient', 'x: y')
  const rows: readonly {
    name: string
    given: string
    caller?: Partial<Caller>
    identity?: SpiffeId
    expect: string
  }[] = [
    { name: 'a pod on the node', given: ztunnel + web(), expect: 'allowed' },
    {
      name: 'an untrusted caller',
      given: ztunnel + web(),
      caller: { serviceAccount: 'web' },
      expect: 'CALLER_NOT_TRUSTED'
    },
    {
      name: 'a trusted name elsewhere',
      given: ztunnel + web(),
      caller: { namespace: 'shop' },
      expect: 'CALLER_NOT_TRUSTED'
    },
    {
      name: 'a token of no pod',
      given: ztunnel + web(),
      caller: { podName: '' },
      expect: 'TOKEN_NOT_BOUND_TO_POD'
    },
    {
      name: 'a token without the uid',
      given: ztunnel + web(),
      caller: { podUid: '' },
      expect: 'TOKEN_NOT_BOUND_TO_POD'
    },
    { name: 'a caller nobody knows', given: web(), expect: 'CALLER_POD_UNKNOWN' },
    {
      name: 'the token of its predecessor',
      given: ztunnel + web(),
      caller: { podUid: 'uid-0' },
      expect: 'CALLER_POD_REPLACED'
    },
    {
      name: 'a pod of another account',
      given: ztunnel.replace('serviceAccountName: ztunnel', 'serviceAccountName: other') + web(),
      expect: 'CALLER_POD_OTHER_ACCOUNT'
    },
    {
      name: 'a caller on no node',
      given: ztunnel.replace('nodeName: n1, ', '') + web(),
      expect: 'CALLER_POD_WITHOUT_NODE'
    },
    {
      name: 'another trust domain',
      given: ztunnel + web(),
      identity: identity('shop', 'web', 'other'),
      expect: 'OTHER_TRUST_DOMAIN'
    },
    {
      name: 'another account',
      given: ztunnel + web(),
      identity: identity('shop', 'db'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    {
      name: 'another namespace',
      given: ztunnel + web(),
      identity: identity('other'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    {
      name: 'a pod on another node',
      given: ztunnel + web().replace('n1', 'n2'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    {
      name: 'one that has failed',
      given: ztunnel + web().replace('Running', 'Failed'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    {
      name: 'one that has succeeded',
      given: ztunnel + web().replace('Running', 'Succeeded'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    { name: 'one that starts', given: ztunnel + web().replace('Running', 'Pending'), expect: 'allowed' },
    {
      name: 'one in the network of the node',
      given: ztunnel + web(', hostNetwork: true'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    { name: 'one outside the mesh', given: plain + web(), expect: 'NO_SUCH_WORKLOAD_ON_NODE' },
    {
      name: 'one that opted out',
      given: ztunnel + web('', '{istio.io/dataplane-mode: none}'),
      expect: 'NO_SUCH_WORKLOAD_ON_NODE'
    },
    {
      name: 'one that opted in',
      given: plain + web('', '{istio.io/dataplane-mode: ambient}'),
      expect: 'allowed'
    },
    {
      name: 'one that is enrolled',
      given: plain + web('', '{}', '{ambient.istio.io/redirection: enabled}'),
      expect: 'allowed'
    },
    {
      name: 'one that ends tunnels itself',
      given: plain + web('', '{networking.istio.io/tunnel: http}'),
      expect: 'allowed'
    }
  ]
  for (const row of rows) {
    const decision = authorizer(world(row.given)).decide(
      { ...caller, ...row.caller },
      row.identity ?? identity()
    )
    t.equal(outcome(decision), row.expect, row.name)
  }
})

t.test('several accounts may be trusted, each for the node of its own pod', async t => {
  const second =
    'kind: Pod\nmetadata: {name: agent-y, namespace: mesh, uid: uid-2}\nspec: {nodeName: n2, serviceAccountName: agent}\nstatus: {phase: Running}\n'
  const view = world(ztunnel + web() + `---\n${second}`)
  const both = new NodeAuthorizer({
    view,
    trusted: new Set(['istio-system/ztunnel', 'mesh/agent']),
    clock: systemClock,
    patienceMs: 0
  })
  const other: Caller = { namespace: 'mesh', serviceAccount: 'agent', podName: 'agent-y', podUid: 'uid-2' }
  t.equal(outcome(both.decide(caller, identity())), 'allowed')
  t.equal(outcome(both.decide(other, identity())), 'NO_SUCH_WORKLOAD_ON_NODE', 'its pod is on another node')
  t.equal(outcome(both.decide({ ...other, serviceAccount: 'ztunnel' }, identity())), 'CALLER_NOT_TRUSTED')
})

t.test('a pod that is not known yet is waited for', async t => {
  const alive = setInterval(() => undefined, 1000) // waiting does not keep a process alive
  t.teardown(() => clearInterval(alive))
  const view = world(ztunnel)
  const asking = authorizer(view, 60_000).authorize(caller, identity(), new AbortController().signal)
  let answered = false
  void asking.then(() => {
    answered = true
  })
  await new Promise(resolve => setImmediate(resolve))
  t.notOk(answered, 'no answer yet')
  const pod = {
    kind: 'Pod',
    metadata: { name: 'web' },
    spec: { nodeName: 'n1', serviceAccountName: 'web' },
    status: { phase: 'Pending' }
  }
  view.put(object(pod))
  t.equal(outcome(await asking), 'allowed')
})

t.test('but not for ever, and not when waiting cannot help', async t => {
  const alive = setInterval(() => undefined, 1000)
  t.teardown(() => clearInterval(alive))
  const view = world(ztunnel)
  const { signal } = new AbortController()
  t.equal(
    outcome(await authorizer(view, 1).authorize(caller, identity(), signal)),
    'NO_SUCH_WORKLOAD_ON_NODE'
  )
  const patient = authorizer(view, 3_600_000)
  t.equal(
    outcome(await patient.authorize({ ...caller, serviceAccount: 'web' }, identity(), signal)),
    'CALLER_NOT_TRUSTED'
  )
  const ended = AbortSignal.abort()
  t.equal(
    outcome(await patient.authorize(caller, identity(), ended)),
    'NO_SUCH_WORKLOAD_ON_NODE',
    'the end is an end'
  )
})
