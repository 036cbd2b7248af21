/** The node agent at a real kube-apiserver: what it reads, annotates and reports. */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { annotatePod } from '../../daemonset/cluster.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { events, pods, serviceAccounts } from '../../shared/kube/resources.ts'
import {
  Agent,
  annotation,
  createNamespace,
  createPod,
  label,
  layOutPlaces,
  StandIn
} from '../netns/agent-world.ts'
import { addresses, askOnce, makeWorld, serveLines } from '../netns/capture-world.ts'
import { eventually } from '../support/eventually.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'
import { needsRoot } from '../support/namespaces.ts'

const skip = needsRoot() || needsKubeApiserver()

t.test('the node agent at a real API server', { skip, timeout: 180_000 }, async t => {
  const { kubeconfig } = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const { pod, peer: node } = world
  const appPort = await serveLines(t, pod, 'app')
  await createNamespace(client)
  const account = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default', namespace: 'shop' }
  }
  await client.create(serviceAccounts, account)
  const uid = await createPod(client, appPort)
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const { environment } = layOutPlaces(folder, { pods: [pod], node })
  const agent = new Agent(t, { folder, environment: { ...environment, KUBECONFIG: kubeconfig } })
  await agent.start()
  const into = { ip: addresses[6].pod, port: appPort }

  await t.test('the owner of a pod that waits finds an Event', async t => {
    await label(client, 'ambient')
    await eventually('the Event is there', async () => {
      const { items } = await client.list(events, { namespace: 'shop' })
      return items.some(
        ({ reason, message = '', involvedObject }) =>
          reason === 'EnrolmentFailed' && message.includes('no ztunnel') && involvedObject?.['uid'] === uid
      )
    })
    t.equal(await annotation(client), undefined)
  })

  await t.test('enrolment writes the annotation, opting out takes it away', async t => {
    ztunnel.connect()
    await eventually('enabled', async () => (await annotation(client)) === 'enabled')
    t.match(await askOnce(node, into), /app saw/)
    await label(client, null)
    await eventually('gone', async () => (await annotation(client)) === undefined)
  })

  await t.test('a newer pod of the same name is not annotated for the old one', async t => {
    const signal = AbortSignal.timeout(30_000)
    const old = { uid: '00000000-0000-0000-0000-000000000000', namespace: 'shop', name: 'web' }
    await annotatePod(client, old, 'enabled', signal)
    t.equal(await annotation(client), undefined)
    await annotatePod(client, { ...old, uid }, 'pending', signal)
    t.equal(await annotation(client), 'pending')
    await annotatePod(client, { ...old, name: 'nobody' }, 'enabled', signal)
  })

  await t.test('a deleted pod is let go', async t => {
    await label(client, 'ambient')
    await eventually('enabled', async () => (await annotation(client)) === 'enabled')
    await client.delete(pods, { namespace: 'shop', name: 'web' }, { gracePeriodSeconds: 0 })
    await eventually('ztunnel is told', () => ztunnel.namespaceOf(uid) === undefined)
    t.match(await agent.get('admin', '/v1/pods'), { pods: [] })
  })
})
