/** A Kubernetes API without nodes: the lab's store, and a command line that is pointed at it. */
import path from 'node:path'
import { startApiStore, type ApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import type { CliIo } from '../../cli/command.ts'
import { run, type Ran } from './run-cli.ts'

export interface ApiCluster {
  readonly store: ApiStore
  readonly client: KubeClient
  readonly run: (words: readonly string[], io?: Partial<CliIo>) => Promise<Ran>
}

interface Test {
  teardown(fn: () => unknown): unknown
  testdir(content: Record<string, string>): string
}

export async function apiCluster(t: Test): Promise<ApiCluster> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const folder = t.testdir({
    kubeconfig: store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`)
  })
  const kubeconfig = path.join(folder, 'kubeconfig')
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  return {
    store,
    client,
    run: (words, io = {}) => run(words, { ...io, env: { ...io.env, KUBECONFIG: kubeconfig } })
  }
}
