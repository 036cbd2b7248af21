/** On a real two-node Kubernetes: our image, our manifests, one label, and the first mutual TLS request. */
import t from 'tap'
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { run } from '../cli/run-cli.ts'
import { buildImage, clusterMissing, startCluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { rolledOut } from '../support/rollout.ts'

const root = path.resolve(import.meta.dirname, '../..')
const manifest = readFileSync(path.join(root, 'daemonset/manifests/underpass.yaml'), 'utf8')
const definitions = ['istio', 'gateway-api'].map(name => {
  const items = gunzipSync(readFileSync(path.join(root, 'shared/kube/crds', `${name}.json.gz`))).toString()
  return `{"apiVersion":"v1","kind":"List","items":${items}}`
})

/** A client on node1 and a server on node2, each with its own account. */
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
${pod('client', 'node1')}
---
${pod('server', 'node2')}
`

function pod(name: string, node: string): string {
  return `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}
spec:
  serviceAccountName: ${name}
  nodeName: ${node}
  terminationGracePeriodSeconds: 0
  containers:
    - {name: app, image: "cluster.local/echo:1", imagePullPolicy: Never, args: [--port, "8080", --grpc, "7070", --tcp, "9090"]}`
}

t.test('a label brings two running pods into the mesh', { skip: clusterMissing() }, async t => {
  const archive = await buildImage()
  t.teardown(() => rmSync(path.dirname(archive), { recursive: true, force: true }))
  const cluster = await startCluster(2)
  t.teardown(() => cluster.down())
  await cluster.importImage(archive)
  const { kubectl } = cluster

  for (const list of definitions) await kubectl(['apply', '--server-side', '-f', '-'], list)
  await kubectl(['apply', '-f', '-'], shop)
  await kubectl(['apply', '--server-side', '-f', '-'], manifest)
  await rolledOut(cluster, 'istio-system', { workloads: ['deployment/istiod', 'daemonset'] })
  await kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s'])

  const call = (): Promise<string> =>
    kubectl(['-n', 'shop', 'exec', 'client', '--', '/usr/local/bin/client', 'http://server.shop:80/'])
  await eventually('before: the call works in the clear', async () => /StatusCode=200/.test(await call()))
  t.equal(await accessLines(), '', 'before: no ztunnel sees it')

  await kubectl(['label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient'])
  await eventually('both pods are enrolled', async () => {
    const text = await kubectl([
      ...['-n', 'shop', 'get', 'pods', '-o'],
      'jsonpath={.items[*].metadata.annotations.ambient\\.istio\\.io/redirection}'
    ])
    return text === 'enabled enabled'
  })

  await eventually('the call goes through the tunnel', async () => {
    t.match(await call(), /StatusCode=200/, 'after: the call still works')
    return /dst\.hbone_addr=/.test(await accessLines())
  })
  const lines = await accessLines()
  t.match(lines, /direction="outbound".*/s)
  t.match(lines, /direction="inbound"/)
  t.match(lines, /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/client"/)
  t.match(lines, /dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/server"/)

  await answers(
    ['status'],
    ['pods', '-A'],
    ['config', 'all'],
    ['node', 'node1', 'rules', '--pod', 'client.shop'],
    ['explain', '--from', 'client', '--to', 'svc/server:80', '-n', 'shop', '--expect', 'allowed']
  )

  await kubectl(['apply', '-f', '-'], readFileSync(path.join(root, 'test/cluster/deny-client.yaml'), 'utf8'))
  await eventually('a policy refuses the client', async () => {
    const outcome = await call().catch((error: unknown) => String(error))
    return !/StatusCode=200/.test(outcome)
  })
  t.match(await accessLines(), /policy rejection/, 'and the access log says why')

  await answers(['explain', '--from', 'client', '--to', 'svc/server:80', '-n', 'shop', '--expect', 'refused'])

  for (const part of ['istiod', 'ztunnel', 'istio-cni-node']) {
    const selector = part === 'istio-cni-node' ? `k8s-app=${part}` : `app=${part}`
    const log = await kubectl(['-n', 'istio-system', 'logs', '-l', selector, '--tail=-1'])
    t.notMatch(log, /forbidden|EPERM|EACCES|not permitted/i, `${part} lacks no permission`)
  }

  async function answers(...commands: readonly (readonly string[])[]): Promise<void> {
    for (const words of commands) {
      const { code, out, err } = await run(words, { env: { KUBECONFIG: cluster.kubeconfig }, now: Date.now })
      t.equal(code, 0, `underpass ${words.join(' ')} ${out} ${err}`)
    }
  }

  async function accessLines(): Promise<string> {
    const logs = await kubectl([
      ...['-n', 'istio-system', 'logs', '-l', 'app=ztunnel', '--tail=-1', '--prefix=false']
    ])
    return logs
      .split('\n')
      .filter(line => line.includes('\taccess\t') && line.includes('sa/client'))
      .join('\n')
  }
})
