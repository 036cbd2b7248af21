/** The mesh in the lab: pods enrolled before they start, tunnels between them, agents reached as on a cluster. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { portForward } from '../../shared/kube/port-forward.ts'
import { kubeconfigPath } from '../../lab/state.ts'
import { labDaemonSets, labPods, type LabPod } from '../../lab/kinds.ts'
import { LabProcess, remains, users } from './lab-process.ts'

t.setTimeout(400_000)

const manifests = path.join(import.meta.dirname, 'manifests')
const strict = `apiVersion: v1
kind: Namespace
metadata: {name: echo, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: echo}
spec: {mtls: {mode: STRICT}}
`
const outsider = `apiVersion: v1
kind: Pod
metadata: {name: outsider}
spec:
  containers:
    - {name: outsider, image: curlimages/curl, command: [sleep, infinity]}
    - {name: server, image: server, ports: [{containerPort: 8080}]}
`

/** The DaemonSet of the plain manifests. */
function ztunnelManifest(): string {
  const file = path.join(import.meta.dirname, '../../daemonset/manifests/underpass.yaml')
  const objects = readFileSync(file, 'utf8').split('\n---\n')
  return objects
    .filter(text => /^kind: DaemonSet$/m.test(text) && /^ {2}name: ztunnel$/m.test(text))
    .join('\n')
}

const [chosen] = (await users()).filter(({ skip }) => skip === false)

t.test(
  'a namespace in the mesh from the start',
  { skip: chosen === undefined && 'no user can run a lab here' },
  async t => {
    const files = t.testdir({ 'strict.yaml': strict, 'outsider.yaml': outsider })
    const lab = new LabProcess(t, chosen?.user ?? 'root', [
      'up',
      ...[
        '-f',
        path.join(manifests, 'echo.yaml'),
        '-f',
        `${files}/strict.yaml`,
        '-f',
        `${files}/outsider.yaml`
      ]
    ])
    await lab.printed('ready.')
    t.notMatch(lab.stdout, /not ready yet/, 'probes reach pods that take mutual TLS only')
    const traces = lab.traces()
    const client = new KubeClient(await loadKubeConfig({ kubeconfig: kubeconfigPath(lab.folder) }))
    t.teardown(() => client.close())
    const curl = ['curl', '-sS', '-m', '5', 'http://echo.echo/']
    const fromInside = () => lab.run('exec', '-n', 'echo', 'deploy/client', '--', ...curl)
    const ztunnels = async () =>
      (await client.list(labPods, { namespace: 'istio-system', labelSelector: 'app=ztunnel' })).items
    const logOf = async ({ metadata }: LabPod): Promise<string> =>
      String(await client.raw('GET', `/api/v1/namespaces/istio-system/pods/${metadata.name}/log`))

    await t.test('its pods are enrolled before their containers start, and talk by tunnel', async t => {
      const { items } = await client.list(labPods, {
        namespace: 'echo',
        labelSelector: 'app in (echo,client,db)'
      })
      t.equal(items.length, 5)
      for (const { metadata } of items) {
        t.equal(metadata.annotations?.['ambient.istio.io/redirection'], 'enabled', metadata.name)
      }
      t.match(await fromInside(), { code: 0, stdout: /"container": "echo"/ })
      const logs = (await Promise.all((await ztunnels()).map(logOf))).join('')
      t.match(
        logs,
        /src\.workload="client-.*dst\.hbone_addr=.*dst\.identity="spiffe:\/\/cluster\.local\/ns\/echo\/sa\/default"/
      )
    })

    await t.test('a pod outside is refused by those that take mutual TLS only', async t => {
      const refused = await lab.until(({ code }) => code !== 0, 'exec', 'outsider', '--', ...curl)
      t.not(refused.code, 0)
      t.match(await fromInside(), { code: 0 })
    })

    await t.test('agents are reached by port-forward, through the API', async t => {
      const [pod] = await ztunnels()
      const stream = await portForward(
        client,
        { namespace: 'istio-system', pod: pod?.metadata.name ?? '', port: 15000 },
        AbortSignal.timeout(10_000)
      )
      stream.write('GET /config_dump HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
      let dump = ''
      for await (const chunk of stream) dump += String(chunk)
      t.match(dump, /^HTTP\/1\.1 200/)
      t.match(dump, '"workloads"')
    })

    await t.test(
      'without its ztunnel a pod is cut off, never in the clear, and comes back with it',
      async t => {
        const server = await client.get(labPods, { namespace: 'default', name: 'outsider' })
        const url = `http://${server.status?.podIP}:8080/`
        const toOutsider = ['exec', '-n', 'echo', 'deploy/client', '--', 'curl', '-sS', '-m', '3', url]
        t.match(await lab.run(...toOutsider), { code: 0 }, 'a server outside the mesh is reached')
        await client.delete(labDaemonSets, { namespace: 'istio-system', name: 'ztunnel' })
        await lab.until(
          ({ stdout }) => !stdout.includes('ztunnel-'),
          'kubectl',
          'get',
          'pods',
          '-n',
          'istio-system'
        )
        t.not((await lab.run(...toOutsider)).code, 0, 'nothing leaves the pod')
        t.not((await fromInside()).code, 0)
        const ztunnel = path.join(t.testdir({ 'ztunnel.yaml': ztunnelManifest() }), 'ztunnel.yaml')
        t.match(await lab.run('kubectl', 'apply', '-f', ztunnel), { code: 0, stdout: /ztunnel created/ })
        const back = await lab.until(
          ({ code }) => code === 0,
          'exec',
          '-n',
          'echo',
          'deploy/client',
          '--',
          ...curl
        )
        t.equal(back.code, 0)
        t.match(await lab.until(({ code }) => code === 0, ...toOutsider), { code: 0 })
      }
    )

    lab.child.kill('SIGINT')
    t.equal((await lab.ended()).code, 0)
    t.strictSame(await remains(traces), [])
  }
)
