/** The CNI plug-in on a real Kubernetes: pods are in the mesh from their first packet, or do not start. */
import t from 'tap'
import { run } from '../cli/run-cli.ts'
import { clusterMissing } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'
import { rolledOut } from '../support/rollout.ts'

const conflist = '/etc/cni/net.d/10-bridge.conflist'

/** The namespace is in the mesh, and strict, before it has any pod. */
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

/** Probed in every way that the kubelet knows, on ports that the mesh would refuse to it. */
const probes = {
  http: '{httpGet: {path: /, port: 8080}, periodSeconds: 1}',
  tcp: '{tcpSocket: {port: 9090}, periodSeconds: 1}',
  exec: '{exec: {command: [/usr/local/bin/client, --help]}, periodSeconds: 5, timeoutSeconds: 10}',
  grpc: '{grpc: {port: 7070}, periodSeconds: 1}'
}
const probing = {
  not: '',
  'by http, tcp and exec': `, startupProbe: ${probes.exec}, readinessProbe: ${probes.http}, livenessProbe: ${probes.tcp}`,
  'by gRPC': `, readinessProbe: ${probes.grpc}`
}

interface PodOptions {
  readonly namespace?: string
  readonly probed?: keyof typeof probing
  /** Calls this at once, before anything else of the pod runs. */
  readonly callsFirst?: string
}

function pod(name: string, { namespace = 'shop', probed = 'not', callsFirst }: PodOptions = {}): string {
  const init = `
  initContainers:
    - {name: first, image: "cluster.local/echo:1", imagePullPolicy: Never, command: [/usr/local/bin/client, "${callsFirst}"]}`
  return `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${name}}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never${callsFirst === undefined ? '' : init}
  containers:
    - {name: app, image: "cluster.local/echo:1", imagePullPolicy: Never, args: [--port, "8080", --tcp, "9090", --grpc, "7070"]${probing[probed]}}`
}

t.test('the CNI plug-in on a node', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, 1)
  const { kubectl, onNode } = cluster
  const before = await onNode('node1', `cat ${conflist}`)
  const programs = await onNode('node1', 'ls /opt/cni/bin')
  await installMesh(cluster)

  const ready = (name: string, namespace = 'shop'): Promise<string> =>
    kubectl(['-n', namespace, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s'])
  const call = (from: string, namespace = 'shop'): Promise<string> =>
    kubectl(['-n', namespace, 'exec', from, '--', '/usr/local/bin/client', 'http://server.shop:80/'])
  const redirection = (name: string): Promise<string> =>
    kubectl([
      ...['-n', 'shop', 'get', 'pod', name, '-o'],
      'jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}'
    ])
  const pluginTypes = async (): Promise<readonly string[]> => {
    const { plugins } = JSON.parse(await onNode('node1', `cat ${conflist}`)) as {
      plugins: { type: string }[]
    }
    return plugins.map(({ type }) => type)
  }

  await t.test('stands last in the chain of the primary', async t => {
    t.strictSame(await pluginTypes(), ['bridge', 'portmap', 'istio-cni'])
  })

  await t.test('http, tcp, gRPC and exec probes pass where only mutual TLS is let in', async t => {
    await kubectl(['apply', '-f', '-'], shop)
    await kubectl(['apply', '-f', '-'], pod('server', { probed: 'by http, tcp and exec' }))
    await kubectl(['apply', '-f', '-'], pod('speaks-grpc', { probed: 'by gRPC' }))
    await ready('server')
    await ready('speaks-grpc')
    t.equal(await redirection('server'), 'enabled')
    await kubectl(['apply', '-f', '-'], pod('outside', { namespace: 'default' }))
    await ready('outside', 'default')
    await t.rejects(call('outside', 'default'), 'a plain call from outside is refused')
  })

  await t.test('the first call of the first container goes through the mesh', async t => {
    await kubectl(['apply', '-f', '-'], pod('client', { callsFirst: 'http://server.shop:80/' }))
    await ready('client')
    t.match(await kubectl(['-n', 'shop', 'logs', 'client', '-c', 'first']), /StatusCode=200/)
    t.equal(await redirection('client'), 'enabled')
  })

  await t.test('the kernel settings of a pod are set from inside the container', async t => {
    const words = ['node', 'node1', 'rules', '--pod', 'server.shop', '-o', 'json']
    const { code, out, err } = await run(words, { env: { KUBECONFIG: cluster.kubeconfig }, now: Date.now })
    t.equal(code, 0, err)
    t.match(out, /net\/ipv4\/tcp_migrate_req = 1/)
  })

  await t.test('comes back where another network plug-in rewrites its configuration', async t => {
    await onNode('node1', `cat > ${conflist} <<'X'\n${before}\nX`)
    await eventually('it is back', async () => (await pluginTypes()).at(-1) === 'istio-cni')
    await onNode('node1', 'rm /opt/cni/bin/istio-cni')
    await eventually('its program is back', async () =>
      (await onNode('node1', 'ls /opt/cni/bin')).includes('istio-cni')
    )
    t.ok(await onNode('node1', '[ -x /opt/cni/bin/istio-cni ]').then(() => true))
  })

  await t.test('while the agent is away new pods wait and say why, and start when it is back', async t => {
    const image = await kubectl([
      ...['-n', 'istio-system', 'get', 'daemonset/istio-cni-node', '-o'],
      'jsonpath={.spec.template.spec.containers[0].image}'
    ])
    const setImage = (wanted: string): Promise<string> =>
      kubectl(['-n', 'istio-system', 'set', 'image', 'daemonset/istio-cni-node', `install-cni=${wanted}`])
    await setImage('underpass.dev/no-such-version:1')
    await eventually('the agent is gone', async () => {
      const phases = await kubectl([
        ...['-n', 'istio-system', 'get', 'pods', '-l', 'k8s-app=istio-cni-node', '-o'],
        'jsonpath={.items[*].status.phase}'
      ])
      return phases === 'Pending'
    })
    t.equal((await pluginTypes()).at(-1), 'istio-cni', 'an upgrade takes nothing away')
    t.match(await call('client'), /StatusCode=200/, 'pods that run go on')

    await kubectl(['apply', '-f', '-'], pod('late', { callsFirst: 'http://server.shop:80/' }))
    await eventually('an Event says what is missing', async () => {
      const text = await kubectl([
        ...['-n', 'shop', 'get', 'events', '--field-selector', 'involvedObject.name=late', '-o'],
        'jsonpath={.items[*].message}'
      ])
      return /istio-cni.*is the DaemonSet istio-cni-node running on this node\?/.test(text)
    })
    await kubectl(['apply', '-f', '-'], pod('system', { namespace: 'kube-system' }))
    await ready('system', 'kube-system')
    t.equal(await kubectl(['-n', 'shop', 'get', 'pod', 'late', '-o', 'jsonpath={.status.phase}']), 'Pending')

    await setImage(image)
    await rolledOut(cluster, 'istio-system', { workloads: ['daemonset/istio-cni-node'] })
    await ready('late')
    t.match(await kubectl(['-n', 'shop', 'logs', 'late', '-c', 'first']), /StatusCode=200/)
  })

  await t.test('probes never failed in all this', async t => {
    const restarts =
      'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}'
    t.equal(await kubectl(['-n', 'shop', 'get', 'pod', 'server', '-o', restarts]), '0 true')
  })

  await t.test('a DaemonSet that is deleted leaves the node as it was, and the pods working', async t => {
    const agent = await kubectl([
      ...['-n', 'istio-system', 'get', 'pods', '-l', 'k8s-app=istio-cni-node', '-o'],
      'jsonpath={.items[0].metadata.name}'
    ])
    const { whole: lastWords } = await cluster.followLog('istio-system', agent)
    await kubectl(['-n', 'istio-system', 'delete', 'daemonset', 'istio-cni-node', '--wait'])
    t.match(await lastWords, /stopping; all rules go.*its DaemonSet is gone/)
    await eventually('the configuration is as it was', async () => {
      return (await onNode('node1', `cat ${conflist}`)) === before
    })
    await eventually('the annotations are gone', async () => (await redirection('server')) === '')
    t.equal((await onNode('node1', 'ls /opt/cni/bin')).replace('istio-cni\n', ''), programs)
    await eventually('calls work, in the clear', async () => /StatusCode=200/.test(await call('client')))
    t.match(await call('outside', 'default'), /StatusCode=200/, 'and from outside')
    await kubectl(['apply', '-f', '-'], pod('after'))
    await ready('after')
  })
})
