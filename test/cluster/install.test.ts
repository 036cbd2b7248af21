/** docs/install.md, followed to the letter on two fresh nodes: from nothing to the first mutual TLS request, and back. */
import t from 'tap'
import { clusterMissing, type Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { startClusterWithImage } from '../support/mesh-cluster.ts'
import { runDocument } from '../support/run-document.ts'
import { clientAndServer } from './echo-pods.ts'

/** The promise of the document. */
const installMs = 60_000
const nodes = ['node1', 'node2']

t.test('installed, used and taken away as docs/install.md says', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, nodes.length)
  const { kubectl } = cluster
  await kubectl(['apply', '-f', '-'], clientAndServer)
  await kubectl(['wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s'])
  const uids = await kubectl(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.uid}'])
  const call = (): Promise<string> =>
    kubectl(['exec', 'client', '--', '/usr/local/bin/client', 'http://server:80/'])
  await eventually('the service answers in the clear', async () => /StatusCode=200/.test(await call()))
  const before = await traces(cluster)

  const env = {
    KUBECONFIG: cluster.kubeconfig,
    PATH: `${process.env['UNDERPASS_PEERS']}:${process.env['PATH']}`
  }
  const started = Date.now()
  await runDocument('docs/install.md', {
    env,
    headings: heading => ['Before', 'Install', 'Enrol a namespace'].includes(heading),
    after: ({ script }, output) => t.comment(`${script}\n${output}`)
  })
  await eventually('the call goes through the tunnel', async () => {
    t.match(await call(), /StatusCode=200/)
    return /dst\.hbone_addr=/.test(await accessLines(cluster))
  })
  const took = Date.now() - started
  t.comment(`from install to the first mutual TLS request: ${took} ms`)
  t.ok(took < installMs, `${took} ms`)

  await runDocument('docs/install.md', {
    env,
    headings: heading => ['Look at it', 'Upgrade', 'Uninstall'].includes(heading),
    after: ({ script }, output) => t.comment(`${script}\n${output}`)
  })
  t.match(await call(), /StatusCode=200/, 'pods go on working')
  t.equal(await kubectl(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.uid}']), uids, 'not restarted')
  t.notMatch(
    await kubectl(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.annotations}']),
    /ambient\.istio\.io/
  )
  t.equal(await traces(cluster), before, 'the nodes are as they were')
  t.equal(await kubectl(['-n', 'istio-system', 'get', 'deployments,daemonsets,pods', '-o', 'name']), '')
})

/**
 * Everything that a mesh writes on a node and into its pods. What kube-proxy writes comes and goes with Services, and the plug-in's
 * file stays as one that does nothing, for pods whose network was made with it.
 */
async function traces(cluster: Cluster): Promise<string> {
  const script = `
    nft list tables; ip rule; ip -6 rule
    ip route show table all | grep -E 'table (1[0-9]+|3[0-9]+)( |$)' || true
    ipset list -n 2>/dev/null || true
    iptables-save 2>/dev/null | grep -v -E 'KUBE|^#|^:|^COMMIT|^[*]|CNI' || true
    for file in /etc/cni/net.d/* /opt/cni/bin/*; do sha256sum "$file"; done | grep -v '/opt/cni/bin/istio-cni$'
    find /var/run/istio-cni /var/run/ztunnel -type f -o -type s
    for netns in /var/run/netns/*; do
      nsenter --net="$netns" sh -c 'nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all' | grep -v -E 'cache|expires'
    done`
  const all = await Promise.all(nodes.map(node => cluster.onNode(node, script)))
  return all.map((text, index) => `== ${nodes[index]}\n${text}`).join('\n')
}

async function accessLines({ kubectl }: Cluster): Promise<string> {
  const logs = await kubectl([
    '-n',
    'istio-system',
    'logs',
    '-l',
    'app=ztunnel',
    '--tail=-1',
    '--prefix=false'
  ])
  return logs
    .split('\n')
    .filter(line => line.includes('\taccess\t'))
    .join('\n')
}
