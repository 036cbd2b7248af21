/** `waypoint`: layer 7 for the services of a namespace. The only file of it that reads the environment or ends the process. */
import { ConfigError } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { textIfThere } from '../shared/runtime/read-if-there.ts'
import { LogOutput, parseLogFilter, standardOutput } from '../shared/telemetry/logger.ts'
import { startWaypoint } from './app.ts'
import { readConfig, type Config } from './config.ts'

const EX_CONFIG = 78

let config: Config | undefined
try {
  config = readConfig({ env: process.env, readFile: textIfThere }).config
} catch (error) {
  process.stderr.write(`waypoint: ${messageOf(error)}\n`)
  process.exitCode = error instanceof ConfigError ? EX_CONFIG : 1
}
if (config !== undefined) await run(config)

async function run(config: Config): Promise<void> {
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
  const asked = new Promise<void>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve())
  })
  try {
    const started = startWaypoint(config, { log, writeLine: line => sink.write(`${line}\n`) })
    const app = await Promise.race([started, asked.then(() => undefined)])
    if (app !== undefined) {
      await asked
      await app.shutDown()
    }
    log.logger('app').info('ended')
    setTimeout(() => process.exit(0), 100)
  } catch (error) {
    fatal(error)
  }
}
