/**
 * One suite of behaviours against the lab's API store and against a real kube-apiserver: the store may be used
 * where the real one would be, as far as these claims go. Where they differ, the real one is right.
 */
import t, { type Test } from 'tap'
import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { bundledDefinitions } from '../../lab/api-store/custom-resources.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'
import type { Answer, ApiAccess } from './api.ts'
import { createContext, type Context, type Suite } from './context.ts'
import { customResourceBehaviours } from './custom.ts'
import { discoveryBehaviours } from './discovery.ts'
import { identityBehaviours } from './identities.ts'
import { kubectlBehaviours } from './kubectl.ts'
import { accepted, refused, type Manifest } from './manifests.ts'
import { meshAccepted, meshRefused } from './mesh-manifests.ts'
import { objectBehaviours } from './objects.ts'
import { applyBehaviours, patchBehaviours } from './patches.ts'
import { watchBehaviours } from './watching.ts'

type Access = ApiAccess & { readonly kubeconfig: string }

const suites: readonly (readonly [name: string, suite: Suite])[] = [
  ['objects', objectBehaviours],
  ['patches', patchBehaviours],
  ['apply', applyBehaviours],
  ['watching', watchBehaviours],
  ['custom', customResourceBehaviours],
  ['identities', identityBehaviours],
  ['discovery', discoveryBehaviours]
]

const kubectl = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'kubectl')
const needsKubectl =
  process.env['UNDERPASS_PEERS'] !== undefined && existsSync(kubectl)
    ? false
    : 'needs kubectl in UNDERPASS_PEERS'

async function startStore(t: Test): Promise<Access> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const server = `https://127.0.0.1:${store.addresses[0]?.port ?? 0}`
  const kubeconfig = path.join(t.testdir({}), 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(server), { mode: 0o600 })
  return { server, token: store.adminToken, caPem: store.caPem, kubeconfig }
}

const providers = [
  { name: 'the lab store', skip: false as string | false, start: startStore },
  { name: 'kube-apiserver', skip: needsKubeApiserver(), start: startKubeApiserver }
]
const started = new Map<string, Access>()
for (const { name, skip, start } of providers) if (skip === false) started.set(name, await start(t))

for (const { name, skip } of providers) {
  t.test(name, { skip }, async t => {
    const access = started.get(name)
    if (access === undefined) return
    for (const [suiteName, suite] of suites) {
      const context = await createContext(access, suiteName)
      await t.test(suiteName, async t => suite(t, context))
      context.api.close()
    }
    const context = await createContext(access, 'kubectl')
    await t.test('kubectl', { skip: needsKubectl }, async t => kubectlBehaviours(t, context, kubectl))
    context.api.close()
  })
}

t.test('objects come out of the store as out of kube-apiserver', { skip: needsKubeApiserver() }, async t => {
  const answers = async (access: Access, manifests: readonly Manifest[]): Promise<readonly Answer[]> => {
    const { api, namespace } = await createContext(access, 'same')
    const filled = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll('{ns}', namespace)) as T
    const all: Answer[] = []
    for (const { path, body } of manifests) all.push(await api.post(filled(path), filled(body)))
    api.close()
    return all.map(answer => JSON.parse(JSON.stringify(answer).replaceAll(namespace, '{ns}')) as Answer)
  }
  const [store, real] = ['the lab store', 'kube-apiserver'].map(name => started.get(name))
  if (store === undefined || real === undefined) return
  const ours = await answers(store, [...accepted, ...refused])
  const theirs = await answers(real, [...accepted, ...refused])
  for (const [index, { name }] of accepted.entries()) {
    t.strictSame(comparable(ours[index]), comparable(theirs[index]), name)
  }
  for (const [offset, { name }] of refused.entries()) {
    const index = accepted.length + offset
    t.strictSame(refusal(ours[index]), refusal(theirs[index]), name)
  }
})

t.test(
  'objects of Istio and the Gateway API are taken and refused alike',
  { skip: needsKubeApiserver() },
  async t => {
    const [store, real] = ['the lab store', 'kube-apiserver'].map(name => started.get(name))
    if (store === undefined || real === undefined) return
    const ours = await createContext(store, 'mesh')
    const theirs = await createContext(real, 'mesh')
    t.teardown(() => [ours, theirs].forEach(({ api }) => api.close()))
    const definitions = bundledDefinitions()
    const where = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
    await Promise.all(definitions.map(async definition => theirs.api.post(where, definition)))
    const post = async ({ api, namespace }: Context, { path, body }: Manifest): Promise<Answer> => {
      const place = path.replace('{ns}', namespace)
      // definitions are served a moment after they are stored
      for (let attempt = 0; attempt < 300 && (await api.get(place)).status === 404; attempt += 1)
        await delay(50)
      const answer = await api.post(place, body)
      return JSON.parse(
        JSON.stringify(answer)
          .replaceAll(namespace, '{ns}')
          .replaceAll(/x-[a-z0-9]{5}\b/g, 'x-generated')
      ) as Answer
    }
    for (const manifest of meshAccepted) {
      const [our, their] = [await post(ours, manifest), await post(theirs, manifest)]
      t.strictSame(comparable(our), comparable(their), manifest.name)
    }
    for (const manifest of meshRefused) {
      const [our, their] = [await post(ours, manifest), await post(theirs, manifest)]
      t.strictSame([our.status, our.body['reason']], [their.status, their.body['reason']], manifest.name)
      // the real one adds what its CEL rules say, or that it did not get to them
      const causes = (our.body['details']?.causes ?? []) as { field: string }[]
      t.ok(causes.length > 0, `${manifest.name} names a field`)
      for (const { field } of causes)
        t.ok(their.text.includes(field), `${manifest.name}: ${field} is in ${their.text}`)
    }
  }
)

/** What differs from one server to the next by its nature. */
const own = new Set(['uid', 'resourceVersion', 'creationTimestamp', 'managedFields', 'finalizers', 'taints'])

function comparable(answer: Answer | undefined): unknown {
  const { kind, status } = answer?.body ?? {}
  // definitions are established at once here and a moment later there; nodes report nothing yet
  const body =
    kind === 'CustomResourceDefinition' || kind === 'Node'
      ? { ...answer?.body, status: 'not compared' }
      : answer?.body
  return {
    status: answer?.status,
    body: normal(body),
    phase: kind === 'Pod' ? status.phase : '',
    warning: answer?.headers['warning']
  }
}

function normal(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value === 'string') {
    return value
      .replace(/kube-api-access-\w{5}/, 'kube-api-access')
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, 'uid')
  }
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([key]) => !own.has(key) || 'matchLabels' in value)
  return Object.fromEntries(
    entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, normal(inner)])
  )
}

function refusal(answer: Answer | undefined): unknown {
  const { reason, details } = answer?.body ?? {}
  const causes = (details?.causes ?? []) as { reason: string; field: string }[]
  return {
    status: answer?.status,
    reason,
    kind: details?.kind,
    name: details?.name,
    causes: causes.map(cause => `${cause.field} ${cause.reason}`).toSorted()
  }
}
