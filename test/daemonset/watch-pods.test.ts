import t, { type Test } from 'tap'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces, pods, type Pod } from '../../shared/kube/core-api.ts'
import { ip } from '../../shared/net/address.ts'
import { silent } from '../../shared/telemetry/logger.ts'
import { defaultSelectors } from '../../daemonset/decide.ts'
import type { Enroller } from '../../daemonset/enrol.ts'
import { PodWatch } from '../../daemonset/watch-pods.ts'
import { eventually } from '../support/eventually.ts'

interface Scene {
  readonly client: KubeClient
  readonly watch: PodWatch
  /** UIDs that were given to work on. */
  readonly changes: string[]
  /** What an enroller was told. */
  readonly calls: string[]
  readonly enroller: Enroller
}

async function scene(t: Test): Promise<Scene> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  const kubeconfig = path.join(t.testdir({}), 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  const abort = new AbortController()
  t.teardown(async () => {
    abort.abort()
    await store.close()
  })
  await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  const [changes, calls]: [string[], string[]] = [[], []]
  const watch = new PodWatch({
    client,
    nodeName: 'node-1',
    settings: {
      selectors: defaultSelectors,
      excludedNamespaces: new Set(),
      systemNamespace: 'istio-system',
      dnsCapture: false
    },
    signal: abort.signal,
    log: silent,
    onChange: uid => changes.push(uid),
    onEvent: () => undefined
  })
  await watch.synced()
  const known = new Set<string>()
  const enroller = {
    pod: (uid: string) => (known.has(uid) ? {} : undefined),
    enrol: async ({ uid, name, addresses }: { uid: string; name: string; addresses: string[] }) => {
      known.add(uid)
      calls.push(`enrol ${name} ${addresses.join(' ')}`)
    },
    takeOut: async (
      { uid, name, addresses }: { uid: string; name: string; addresses: string[] },
      { running, annotated }: { running: boolean; annotated: boolean }
    ) => {
      known.delete(uid)
      calls.push(`out ${name} ${addresses.join(' ')} running=${running} annotated=${annotated}`)
    },
    removeLeftovers: async ({ name }: { name: string }) => void calls.push(`leftovers ${name}`)
  } as unknown as Enroller
  return { client, watch, changes, calls, enroller }
}

async function createPod(
  client: KubeClient,
  name: string,
  address: string,
  node = 'node-1'
): Promise<string> {
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: { nodeName: node, serviceAccountName: 'default', containers: [{ name: 'main', image: 'app' }] }
  }
  const { metadata } = await client.create(pods, pod)
  await patchStatus(client, name, { phase: 'Running', podIP: address, podIPs: [{ ip: address }] })
  return metadata.uid ?? ''
}

async function patchStatus(client: KubeClient, name: string, status: object): Promise<void> {
  await client.patch(pods, { namespace: 'shop', name }, { status }, { kind: 'merge', subresource: 'status' })
}

async function label(client: KubeClient, value: string | null): Promise<void> {
  const patch = { metadata: { labels: { 'istio.io/dataplane-mode': value } } }
  await client.patch(namespaces, { name: 'shop' }, patch, { kind: 'merge' })
}

t.test('a label on the namespace is work for its pods on this node, and for no other', async t => {
  const { client, watch, changes, calls, enroller } = await scene(t)
  const here = await createPod(client, 'here', '10.0.0.1')
  await createPod(client, 'there', '10.0.0.2', 'node-2')
  await eventually('the pod is seen', () => [...watch.uids()].includes(here) && changes.length >= 2)
  await watch.reconcile(here, enroller)
  t.strictSame(calls, [], 'not selected yet')
  changes.length = 0
  await label(client, 'ambient')
  await eventually('the flip is work', () => changes.length > 0)
  t.strictSame(changes, [here])
  await watch.reconcile(here, enroller)
  t.strictSame(calls, ['enrol here 10.0.0.1'])
  await label(client, null)
  await eventually('the flip back is work', () => changes.length > 1)
  await watch.reconcile(here, enroller)
  t.equal(calls[1], 'out here 10.0.0.1 running=true annotated=false')
})

t.test('what changes nothing for enrolment is no work', async t => {
  const { client, changes } = await scene(t)
  const uid = await createPod(client, 'web', '10.0.0.1')
  await eventually('address and pod are seen', () => changes.length === 2)
  const condition = { type: 'Ready', status: 'True' }
  await patchStatus(client, 'web', { conditions: [condition] })
  await createPod(client, 'next', '10.0.0.2')
  await eventually('the next pod is seen', () => changes.some(change => change !== uid))
  t.strictSame(
    changes.filter(change => change === uid),
    [uid, uid]
  )
})

t.test('a pod that completes is taken out with the address that it had', async t => {
  const { client, watch, changes, calls, enroller } = await scene(t)
  await label(client, 'ambient')
  const uid = await createPod(client, 'job', '10.0.0.1')
  await eventually('it has its address', () => changes.length === 2)
  await watch.reconcile(uid, enroller)
  await patchStatus(client, 'job', { phase: 'Succeeded', podIP: null, podIPs: null })
  await eventually('its end is seen', () => changes.length === 3)
  await watch.reconcile(uid, enroller)
  t.equal(calls[1], 'out job 10.0.0.1 running=false annotated=false')
})

t.test('a deleted pod is taken out once, and forgotten', async t => {
  const { client, watch, changes, calls, enroller } = await scene(t)
  await label(client, 'ambient')
  const uid = await createPod(client, 'web', '10.0.0.1')
  await eventually('it has its address', () => changes.length === 2)
  await watch.reconcile(uid, enroller)
  await client.delete(pods, { namespace: 'shop', name: 'web' }, { gracePeriodSeconds: 0 })
  await eventually('its end is seen', () => changes.length >= 3)
  await watch.reconcile(uid, enroller)
  await watch.reconcile(uid, enroller)
  t.strictSame(calls.slice(1), ['out web 10.0.0.1 running=false annotated=false'])
  t.strictSame([...watch.uids()], [])
})

t.test('at CNI ADD', async t => {
  const { client, watch, changes } = await scene(t)
  const addresses = [ip('10.0.0.9')]

  await t.test('a pod that is not selected has no facts', async t => {
    await createPod(client, 'web', '10.0.0.1')
    t.equal(await watch.factsOfNew('shop', 'web', addresses), undefined)
  })

  await t.test('the addresses are those of the plug-in', async t => {
    await label(client, 'ambient')
    await eventually('the label is seen', () => changes.length >= 3)
    t.match(await watch.factsOfNew('shop', 'web', addresses), {
      name: 'web',
      addresses,
      serviceAccount: 'default'
    })
  })

  await t.test('an earlier pod of the same name that ended is not taken for it', async t => {
    const old = await createPod(client, 'set-0', '10.0.0.2')
    await patchStatus(client, 'set-0', { phase: 'Failed' })
    await client.delete(pods, { namespace: 'shop', name: 'set-0' }, { gracePeriodSeconds: 0 })
    const fresh = await createPod(client, 'set-0', '10.0.0.3')
    const facts = await watch.factsOfNew('shop', 'set-0', addresses)
    t.not(facts?.uid, old)
    t.equal(facts?.uid, fresh)
  })

  await t.test('a pod that the API server does not know is an error', async t => {
    await t.rejects(watch.factsOfNew('shop', 'nobody', addresses), /nobody/)
  })
})
