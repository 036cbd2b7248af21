/** A gateway in the lab: clients from outside of the mesh reach a service inside by its listeners, and its waypoint where it wants. */
import t from 'tap'
import path from 'node:path'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { services } from '../../shared/kube/core-api.ts'
import { gateways } from '../../shared/kube/gateway-api.ts'
import { kubeconfigPath } from '../../lab/state.ts'
import { eventually } from '../support/eventually.ts'
import { certificateFor } from '../waypoint/gateway/world.ts'
import { LabProcess, remains, users } from './lab-process.ts'

t.setTimeout(300_000)

const store = path.join(import.meta.dirname, '../../lab/demo/canary.yaml')
const { cert, key } = certificateFor('shop.example')
const base64 = (text: string): string => Buffer.from(text).toString('base64')

const edge = `apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: outside, labels: {app: client}}
spec:
  containers: [{name: client, image: curlimages/curl, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Secret
metadata: {name: site, namespace: store}
type: kubernetes.io/tls
data: {tls.crt: ${base64(cert)}, tls.key: ${base64(key)}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: store}
spec:
  gatewayClassName: underpass
  listeners:
    - {name: web, port: 80, protocol: HTTP}
    - {name: site, port: 443, protocol: HTTPS, hostname: shop.example, tls: {certificateRefs: [{name: site}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: store}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: catalogue, port: 80}]}]
`

const [chosen] = (await users()).filter(({ skip }) => skip === false)

t.test(
  'into the mesh by a Gateway',
  { skip: chosen === undefined && 'no user can run a lab here' },
  async t => {
    const lab = new LabProcess(t, chosen?.user ?? 'root', ['up', '-f', store])
    await lab.printed('ready.')
    const traces = lab.traces()
    const client = new KubeClient(await loadKubeConfig({ kubeconfig: kubeconfigPath(lab.folder) }))
    t.teardown(() => client.close())
    const file = path.join(t.testdir({ 'edge.yaml': edge }), 'edge.yaml')
    t.match(await lab.run('kubectl', 'apply', '-f', file), { code: 0 })
    let address = ''
    await eventually('the Gateway can be used', async () => {
      const { status } = await client.get(gateways, { namespace: 'store', name: 'edge' })
      address = status?.addresses?.[0]?.value ?? ''
      return (
        status?.conditions?.some(({ type, status }) => type === 'Programmed' && status === 'True') === true
      )
    })
    const curl = [
      'exec',
      '-n',
      'outside',
      'client',
      '--',
      'curl',
      '-sS',
      '-m',
      '5',
      '-w',
      '\nstatus %{http_code}\n'
    ]
    const until = (expected: RegExp, ...more: string[]): ReturnType<typeof lab.run> =>
      lab.until(({ stdout }) => expected.test(stdout), ...curl, ...more)
    const named = (port: number): readonly string[] => ['--resolve', `shop.example:${port}:${address}`]

    await t.test('by HTTP, and no other host than that of the route', async t => {
      const { stdout } = await until(/"container": "v/, ...named(80), 'http://shop.example/')
      t.match(stdout, /"x-forwarded-proto": "http"/)
      t.match(await lab.run(...curl, `http://${address}/`), { stdout: /status 404/ }, 'another host')
    })

    await t.test('by TLS, with the certificate of the listener', async t => {
      const trusted = ['-v', '-k', ...named(443), 'https://shop.example/']
      const { stdout, stderr } = await until(/"container": "v/, ...trusted)
      t.match(stdout, /"x-forwarded-proto": "https"/)
      t.match(stderr, /subject: CN=shop\.example/)
    })

    await t.test('through the waypoint of the service, where the service wants it', async () => {
      const label = { metadata: { labels: { 'istio.io/ingress-use-waypoint': 'true' } } }
      await client.patch(services, { namespace: 'store', name: 'catalogue' }, label, { kind: 'merge' })
      const second = ['-H', 'x-version: v2', ...named(80), 'http://shop.example/']
      await eventually(
        'the route of the waypoint holds: who asks for the second version gets it',
        async () => {
          for (let round = 0; round < 12; round += 1) {
            const { stdout } = await lab.run(...curl, ...second)
            if (!stdout.includes('"container": "v2"')) return false
          }
          return true
        }
      )
    })

    lab.child.kill('SIGINT')
    t.equal((await lab.ended()).code, 0)
    t.strictSame(await remains(traces), [])
  }
)
