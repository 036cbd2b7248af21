/** Starts the control plane: reads the environment, runs until told to stop, says in its exit status how it went. */
import { KubeClient } from '../shared/kube/client.ts'
import { kubeConfigSource, loadKubeConfig } from '../shared/kube/config.ts'
import { KubeConfigError } from '../shared/kube/errors.ts'
import { ConfigError } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { LogOutput } from '../shared/telemetry/logger.ts'
import { startApp } from './app.ts'
import { readConfig } from './config.ts'
import { explainDesired } from './serve/explain.ts'

/** Of sysexits.h: the configuration is wrong, so starting again does not help. */
const badConfiguration = 78

try {
  const { config } = readConfig(process.env)
  const logs = new LogOutput(config.log)
  const client = new KubeClient(await loadKubeConfig(kubeConfigSource(process.env)), 'underpass-controlplane')
  const app = await startApp({ config, client, logs, explain: explainDesired() })
  const stop = (): void => {
    logs.logger('controlplane').info('stopping')
    void app.close().finally(() => {
      client.close()
      process.exit(0)
    })
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
} catch (error) {
  process.stderr.write(`underpass control plane: ${messageOf(error)}\n`)
  // Watches that were started would keep the process alive.
  process.exit(error instanceof ConfigError || error instanceof KubeConfigError ? badConfiguration : 1)
}
