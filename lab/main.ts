/** `node lab/main.ts COMMAND`: the lab's program, which `underpass lab` starts. */
import path from 'node:path'
import net from 'node:net'
import { messageOf } from '../shared/runtime/errors.ts'
import { LogOutput, parseLogFilter } from '../shared/telemetry/logger.ts'
import { parseCommand, usage, type LabCommand } from './arguments.ts'
import type { InsideOptions } from './inside.ts'
import { messagePipe } from './isolate.ts'
import { kubeconfigPath, stateFolder } from './state.ts'
import type { LabContext } from './up.ts'

const uid = process.getuid?.() ?? 0

const context: LabContext = {
  stateFolder: stateFolder(process.env, uid === 0, uid),
  isRoot: uid === 0,
  uid,
  environment: process.env,
  projectRoot: path.dirname(import.meta.dirname),
  nodePath: process.execPath,
  mainPath: import.meta.filename,
  pid: process.pid,
  print: line => console.log(line),
  notify: message => process.send?.(message)
}

const stopping = new AbortController()
// Who read along has gone, such as `| head`: what runs ends in order, and nothing else is said.
process.stdout.on('error', () => stopping.abort())
process.stderr.on('error', () => undefined)

process.exitCode = process.argv[2] === 'inside' ? await runInside() : await runCommand()
if (process.argv[2] !== 'inside') process.disconnect?.()

async function runCommand(): Promise<number> {
  try {
    return await dispatch(parseCommand(process.argv.slice(2)))
  } catch (error) {
    console.error(`error: ${messageOf(error)}`)
    return 1
  }
}

/** Each command loads what it needs: `exec` should not wait for the cluster's code. */
async function dispatch(command: LabCommand): Promise<number> {
  switch (command.verb) {
    case 'help':
      console.log((usage[command.topic] ?? usage[''] ?? '').trimEnd())
      return 0
    case 'up':
      return (await import('./up.ts')).up(command, context, stopSignal())
    case 'demo': {
      const { tour } = await import('./tour.ts')
      return tour({ ...context, stateFolder: `${context.stateFolder}-demo` }, stopSignal())
    }
    case 'check': {
      const { formatRequirements, requirements } = await import('./check.ts')
      const found = await requirements(context)
      console.log(formatRequirements(found))
      return found.every(({ ok }) => ok) ? 0 : 2
    }
    case 'kubectl': {
      const { connect, runningState } = await import('./running.ts')
      runningState(context)
      const { kubectl } = await import('./kubectl.ts')
      return kubectl(command.words, {
        kubeconfig: kubeconfigPath(context.stateFolder),
        environment: context.environment,
        connect: () => connect(context)
      })
    }
    case 'kubeconfig': {
      const { runningState } = await import('./running.ts')
      runningState(context)
      console.log(kubeconfigPath(context.stateFolder))
      return 0
    }
    case 'down':
      return (await import('./running.ts')).down(context)
    case 'status':
      return (await import('./running.ts')).status(command, context)
    case 'exec':
      return (await import('./running.ts')).exec(command, context)
    default:
      return command satisfies never
  }
}

/** Ctrl-C, `lab down` and a closed terminal end the lab in order; a second Ctrl-C changes nothing. */
function stopSignal(): AbortSignal {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopping.abort())
  return stopping.signal
}

/** The program behind the walls; descriptor 3 listens on the host, descriptor 4 leads to the parent. */
async function runInside(): Promise<number> {
  const pipe = new net.Socket({ fd: 4 })
  const messages = messagePipe(pipe, pipe)
  const filter = parseLogFilter('warn')
  const logger = new LogOutput({
    filter: filter ?? { fallback: 'warn', targets: new Map() },
    format: 'plain',
    sink: { write: line => process.stderr.write(line) }
  }).logger('lab')
  const options = JSON.parse(process.argv[3] ?? '{}') as Omit<InsideOptions, 'listener'> & { port: number }
  try {
    const { startInside } = await import('./inside.ts')
    const inside = await startInside({ ...options, listener: 3 }, logger)
    messages.send({ kubeconfig: inside.store.kubeconfig(`https://127.0.0.1:${options.port}`) })
    const graceMs = await new Promise<number>(resolve => {
      messages.onMessage(message => resolve((message as { stop: number }).stop))
      pipe.once('close', () => resolve(0))
    })
    await inside.stop(graceMs)
    return process.exit(0)
  } catch (error) {
    messages.send({ failed: messageOf(error) })
    pipe.end()
    await new Promise(resolve => pipe.once('close', resolve))
    return process.exit(1)
  }
}
