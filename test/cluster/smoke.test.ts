/** On a real two-node Kubernetes: our image, our manifests, one label, and the first mutual TLS request. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { run } from '../cli/run-cli.ts'
import { samples } from '../support/access-lines.ts'
import { clusterMissing } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'

const root = path.resolve(import.meta.dirname, '../..')

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

/** What can be asked for by name: `far.test` is known to the mesh alone, and the DNS of `plain` is captured by nobody. */
const names = `
apiVersion: v1
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, selector: {app: server}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: shop}
spec:
  hosts: [far.test]
  addresses: [240.240.7.7]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{name: http, number: 80, targetPort: 8080, protocol: HTTP}]
  workloadSelector: {labels: {app: server}}
---
${pod('plain', 'node1', { account: 'client', annotations: '{ambient.istio.io/dns-capture: "false"}' })}
`

function pod(name: string, node: string, { account = name, annotations = '{}' } = {}): string {
  return `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}, annotations: ${annotations}}
spec:
  serviceAccountName: ${account}
  nodeName: ${node}
  terminationGracePeriodSeconds: 0
  containers:
    - {name: app, image: "cluster.local/echo:1", imagePullPolicy: Never, args: [--port, "8080", --grpc, "7070", --tcp, "9090"]}`
}

t.test('a label brings two running pods into the mesh', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, 2)
  const { kubectl } = cluster

  await installMesh(cluster)
  await kubectl(['apply', '-f', '-'], shop)
  await kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s'])

  const call = (from = 'client', url = 'http://server.shop:80/'): Promise<string> =>
    kubectl(['-n', 'shop', 'exec', from, '--', '/usr/local/bin/client', url])
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

  await t.test('by every kind of name', async t => {
    await kubectl(['apply', '-f', '-'], names)
    await kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', 'plain', '--timeout=60s'])
    for (const host of ['server', 'server.shop.svc.cluster.local', 'pods:8080', 'far.test']) {
      await eventually(host, async () => /StatusCode=200/.test(await call('client', `http://${host}/`)))
    }
    t.match(await call('plain', 'http://server.shop/'), /StatusCode=200/, 'by the cluster’s DNS')
    await t.rejects(call('plain', 'http://far.test/'), 'which knows no ServiceEntry')

    const onNode1 = 'jsonpath={.items[?(@.spec.nodeName=="node1")].metadata.name}'
    const ztunnel = await kubectl(['-n', 'istio-system', 'get', 'pod', '-l', 'app=ztunnel', '-o', onNode1])
    const proxied = `/api/v1/namespaces/istio-system/pods/${ztunnel}:15020/proxy/metrics`
    const metrics = await kubectl(['get', '--raw', proxied])
    const count = (name: string): number => samples(metrics, name).reduce((sum, { value }) => sum + value, 0)
    t.ok(count('istio_dns_requests_total') > count('istio_dns_upstream_requests_total'), 'ztunnel answered')
    t.equal(count('istio_dns_upstream_failures_total'), 0)
  })

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
