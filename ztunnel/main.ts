/** `ztunnel [proxy …]`: the per-node layer-4 agent. The only file of it that reads the environment or ends the process. */
import { availableParallelism } from 'node:os'
import { ConfigError } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { textIfThere } from '../shared/runtime/read-if-there.ts'
import { LogOutput, parseLogFilter, standardOutput } from '../shared/telemetry/logger.ts'
import { startZtunnel } from './app.ts'
import { readConfig, type Config } from './config.ts'
import { versionOf } from './version.ts'

const usage = `usage: ztunnel [proxy | version | help]

  proxy     carry traffic (the default); configured by environment variables
  version   print the version and end
`

const [command = 'proxy'] = process.argv.slice(2)
switch (command) {
  case 'proxy':
    await proxy()
    break
  case 'version':
    process.stdout.write(`${JSON.stringify(versionOf('unknown'))}\n`)
    break
  case 'help':
  case '--help':
    process.stdout.write(usage)
    break
  default:
    process.stderr.write(`unknown command: ${process.argv.slice(2).join(' ')}\n${usage}`)
    process.exitCode = 1
}

async function proxy(): Promise<void> {
  let config: Config
  try {
    config = await readConfig({ env: process.env, readFile: textIfThere, cores: availableParallelism() })
  } catch (error) {
    process.stderr.write(`ztunnel: ${messageOf(error)}\n`)
    process.exitCode = error instanceof ConfigError ? 78 : 1 // EX_CONFIG
    return
  }
  const sink = standardOutput()
  const filter = parseLogFilter(config.logFilter) ?? { fallback: 'info', targets: new Map() }
  const log = new LogOutput({ filter, format: config.logFormat, sink })
  const fatal = (error: unknown): void => {
    log.logger('app').error(messageOf(error))
    // The log is written in the background: give it a moment, then end whatever else is still open.
    setTimeout(() => process.exit(1), 100)
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)
  try {
    const app = await startZtunnel(config, {
      log,
      writeLog: lines => sink.write(lines),
      version: versionOf(config.istioVersion)
    })
    let interrupted = false
    process.on('SIGTERM', () => void app.shutDown())
    process.on('SIGINT', () => {
      if (interrupted) process.exit(0)
      interrupted = true
      void app.shutDown()
    })
    await app.ended
    log.logger('app').info('ended')
    // Time for the last lines. What then still waits cannot be written, and the log's own last attempt, made
    // when a process exits, would never come back from a full disk.
    setTimeout(() => {
      process.removeAllListeners('exit')
      process.exit(0)
    }, 300)
  } catch (error) {
    fatal(error)
  }
}
