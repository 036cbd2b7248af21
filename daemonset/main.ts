/** Starts the node agent; `inventory` lists what it put on this machine, `uninstall` removes it. */
import { KubeClient } from '../shared/kube/client.ts'
import { kubeConfigSource, loadKubeConfig } from '../shared/kube/config.ts'
import { ConfigError } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { LogOutput } from '../shared/telemetry/logger.ts'
import { startApp } from './app.ts'
import { readConfig, type Config } from './config.ts'
import { defaultSelectors, readSelectors, type EnablementSelector } from './decide.ts'
import { decideEnding, type Ending, lookAtOwnDaemonSet, type Place } from './cni-install/own-daemonset.ts'
import { uninstall } from './uninstall.ts'

const EX_CONFIG = 78

const [command, ...rest] = process.argv.slice(2)
try {
  if (command === undefined) await run()
  else if (command === 'inventory') await removeAll(true)
  else if (command === 'uninstall') await removeAll(rest.includes('--dry-run'))
  else fail(2, `unknown command ${command}; commands: none (run), inventory, uninstall [--dry-run]`)
} catch (error) {
  fail(error instanceof ConfigError ? EX_CONFIG : 1, messageOf(error))
}

async function run(): Promise<void> {
  const { config } = readConfig(process.env)
  const selectors = await selectorsOf(config)
  const output = new LogOutput({ filter: config.log.filter, format: config.log.format })
  const log = output.logger('agent')
  const client = new KubeClient(await loadKubeConfig(kubeConfigSource(process.env)), 'underpass-node-agent')
  const app = await startApp({ config, selectors, client, output })
  const stop = new Promise<NodeJS.Signals>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve)
  })
  const ending = config.cniInstall === undefined ? undefined : await watchForEnding(config, client)
  const signal = await stop
  const { kind, why } = (await ending?.()) ?? { kind: 'comes back', why: 'it installs nothing' }
  log.info(`stopping; ${kind === 'comes back' ? 'all rules stay' : 'all rules go'}`, { signal, why })
  await app.close()
  if (kind === 'is removed') {
    const say = (line: string): void => log.info(line)
    const problems = await uninstall(config, kubeConfigSource(process.env), { dryRun: false, say })
    for (const problem of problems) log.warn('not removed', { problem })
  }
  process.exit(0)
}

/** Whether the agent comes back after its end depends on what the API server says now as well. */
async function watchForEnding(config: Config, client: KubeClient): Promise<() => Promise<Ending>> {
  const place: Place = {
    namespace: config.enrolment.systemNamespace,
    daemonSet: config.daemonSet,
    nodeName: config.nodeName
  }
  const before = await lookAtOwnDaemonSet(client, place, { attemptMs: 10_000 })
  // Of the half minute that a pod has to end: an API server that stalls shall not make a removal look like an upgrade.
  const patience = { attemptMs: 5000, attempts: 4 }
  return async () => decideEnding(await lookAtOwnDaemonSet(client, place, patience), before)
}

async function removeAll(dryRun: boolean): Promise<void> {
  const { config } = readConfig(process.env)
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  const problems = await uninstall(config, kubeConfigSource(process.env), { dryRun, say })
  if (problems.length > 0) fail(1, `not removed:\n  ${problems.join('\n  ')}`)
}

/** The reader of YAML is loaded only where somebody set selectors of their own. */
async function selectorsOf({ ambient, selectorsYaml }: Config): Promise<readonly EnablementSelector[]> {
  if (!ambient) return []
  if (selectorsYaml === undefined || selectorsYaml.trim() === '') return defaultSelectors
  const { parseYaml } = await import('../shared/kube/yaml.ts')
  try {
    return readSelectors(parseYaml(selectorsYaml, 'AMBIENT_ENABLEMENT_SELECTOR'))
  } catch (error) {
    throw new ConfigError([`AMBIENT_ENABLEMENT_SELECTOR: ${messageOf(error)}`])
  }
}

function fail(code: number, message: string): never {
  process.stderr.write(`${message}\n`)
  process.exit(code)
}
