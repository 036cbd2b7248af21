/** The lab's API store on a port of this machine, and control planes at it. */
import type { Test } from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApp, type App } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { startApiStore, type ApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces } from '../../shared/kube/core-api.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'

export interface StoreWorld {
  readonly store: ApiStore
  readonly client: KubeClient
  /** What the control planes have logged. */
  readonly lines: string[]
  /** Starts another control plane, with further settings. */
  readonly start: (env?: Record<string, string>) => Promise<App>
}

/** With the namespaces `istio-system` and `shop`; all of it ends with the test. */
export async function storeWorld(t: Test): Promise<StoreWorld> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-controlplane-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  for (const name of ['istio-system', 'shop']) {
    await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  const lines: string[] = []
  const start = async (env: Record<string, string> = {}): Promise<App> => {
    const { config } = readConfig({
      UNDERPASS_LISTEN: '127.0.0.1',
      UNDERPASS_XDS_PORT: '0',
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      TERMINATION_DRAIN_DURATION: '100ms',
      ROOT_CA_DIR: path.join(folder, 'none'),
      ...env
    })
    const logs = new LogOutput({ ...config.log, sink: { write: line => void lines.push(line) } })
    const app = await startApp({ config, client, logs })
    t.teardown(async () => app.close())
    return app
  }
  return { store, client, lines, start }
}
