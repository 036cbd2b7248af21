/** docs/migrate-from-istio.md, followed to the letter over Istio's own programs: traffic goes on, and all the way back. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { clusterMissing } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { startClusterWithImage } from '../support/mesh-cluster.ts'
import { runDocument } from '../support/run-document.ts'
import { clientAndServer } from './echo-pods.ts'

t.test(
  'each part is replaced and put back as docs/migrate-from-istio.md says',
  { skip: clusterMissing() },
  async t => {
    const tools = process.env['UNDERPASS_CLUSTER'] ?? ''
    const cluster = await startClusterWithImage(t, 2)
    const { kubectl, kubeconfig } = cluster
    const env = {
      KUBECONFIG: kubeconfig,
      PATH: `${process.env['UNDERPASS_PEERS']}:${process.env['PATH']}`,
      PEERS: process.env['UNDERPASS_PEERS'] ?? '',
      NODE_OPTIONS: ''
    }
    const ambient = (...words: string[]) =>
      execFileSync(path.join(tools, 'ambient'), words, { env: { ...process.env, ...env }, stdio: 'pipe' })
    t.teardown(() => ambient('down'))
    ambient('up')
    await kubectl(['apply', '-f', '-'], clientAndServer)
    await kubectl(['label', 'namespace', 'default', 'istio.io/dataplane-mode=ambient'])
    await kubectl(['wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s'])
    const call = (): Promise<string> =>
      kubectl(['exec', 'client', '--', '/usr/local/bin/client', 'http://server:80/'])
    const works = async () => /StatusCode=200/.test(await call().catch(String))
    await eventually("the call works through Istio's mesh", works)
    const before = await specs()

    await runDocument('docs/migrate-from-istio.md', {
      env,
      after: async ({ heading, script }, output) => {
        t.comment(`${script}\n${output}`)
        await eventually(`the call works after "${heading}"`, works)
      }
    })
    t.same(await specs(), before, 'all is as it was')

    async function specs(): Promise<unknown> {
      const names = [
        'daemonset/ztunnel',
        'daemonset/istio-cni-node',
        'service/istiod',
        'serviceaccount/ztunnel'
      ]
      const lists = await Promise.all(
        names.map(name => kubectl(['-n', 'istio-system', 'get', name, '-o', 'json']))
      )
      return lists.map(text => {
        const { metadata, spec } = JSON.parse(text) as { metadata: Record<string, unknown>; spec: unknown }
        const annotations = { ...(metadata['annotations'] as Record<string, string> | undefined) }
        delete annotations['deprecated.daemonset.template.generation']
        return { labels: metadata['labels'], annotations, spec }
      })
    }
  }
)
