/**
 * Manifests that nobody here wrote: the Gateway API's echo application, as the conformance program of that project
 * carries it, unchanged. It runs, and with one label its traffic goes through the mesh.
 */
import t from 'tap'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { labPods } from '../../lab/kinds.ts'
import { kubeconfigPath } from '../../lab/state.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { eventually } from '../support/eventually.ts'
import { LabProcess, remains, users } from './lab-process.ts'

t.setTimeout(300_000)

const program = path.join(process.env['UNDERPASS_PEERS'] ?? '/nowhere', 'gateway-api-conformance')
const [chosen] = (await users()).filter(({ skip }) => skip === false)
const skip = !existsSync(program)
  ? 'needs gateway-api-conformance in UNDERPASS_PEERS'
  : chosen === undefined && 'no user can run a lab here'

const namespace = 'gateway-conformance-mesh'
const consumer = `${namespace}-consumer`

/** The file `mesh/manifests.yaml`, which the program holds as text between its other data. */
function echoManifests(): string {
  const text = readFileSync(program, 'latin1')
  const start = text.indexOf(`---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${namespace}\n`)
  return /^[\t\n\x20-\x7e]+/.exec(text.slice(Math.max(0, start), start + 100_000))?.[0] ?? ''
}

t.test('the echo application of the Gateway API runs as it is, in the mesh', { skip }, async t => {
  const file = path.join(t.testdir({ 'manifests.yaml': echoManifests() }), 'manifests.yaml')
  const lab = new LabProcess(t, chosen?.user ?? 'root', ['up', '-f', file])
  await lab.printed('ready.')
  const traces = lab.traces()
  t.notMatch(lab.stdout, /not ready yet/)
  for (const line of [
    `namespaces/${namespace}`,
    `namespaces/${consumer}`,
    'deployments/echo-v1',
    'services/echo'
  ]) {
    t.match(lab.stdout, `${line} created`)
  }
  const curl = (...words: string[]) =>
    lab.run('exec', '-n', consumer, 'deploy/echo-v1', '--', 'curl', '-sS', '-m', '5', ...words)
  for (const version of ['v1', 'v2']) {
    const { stdout } = await curl(`http://echo-${version}.${namespace}/`)
    t.match(JSON.parse(stdout), { namespace, pod: new RegExp(`^echo-${version}-`) })
  }
  const grpcPort = await curl('--http2-prior-knowledge', `http://echo.${namespace}:7070/`)
  t.match(JSON.parse(grpcPort.stdout), { proto: 'HTTP/2.0' })

  for (const space of [namespace, consumer]) {
    const labelled = await lab.run('kubectl', 'label', 'namespace', space, 'istio.io/dataplane-mode=ambient')
    t.match(labelled, { code: 0 })
  }
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: kubeconfigPath(lab.folder) }))
  t.teardown(() => client.close())
  const seen = `src.identity="spiffe://cluster.local/ns/${consumer}/sa/default"`
  await eventually('a request is logged with the identity of who sent it', async () => {
    await curl(`http://echo-v1.${namespace}/`)
    const { items } = await client.list(labPods, { namespace: 'istio-system', labelSelector: 'app=ztunnel' })
    const logs = await Promise.all(
      items.map(({ metadata }) =>
        client.raw('GET', `/api/v1/namespaces/istio-system/pods/${metadata.name}/log`)
      )
    )
    return logs.some(text => String(text).includes(seen))
  })
  lab.child.kill('SIGINT')
  t.equal((await lab.ended()).code, 0)
  t.strictSame(await remains(traces), [])
})
