/** Log levels at run time: `/logging` of every program, in the words of Istio's ztunnel. */
import { HttpProblem, type AdminRequest, type Answer } from '../runtime/admin-http.ts'
import { formatLogFilter, parseLogFilter, type LogFilter, type LogOutput } from './logger.ts'

const usage = `usage: POST /logging\t\t\t\t(To list the current level)
usage: POST /logging?level=<level>\t\t(To change all levels)
usage: POST /logging?level={mod1}={level1},{mod2}={level2}\t(To change specific modules)
usage: POST /logging?reset\t\t\t(To go back to the start)

<level>: off, error, warn, info, debug, trace
`

export interface LogLevels {
  current(): LogFilter
  set(filter: LogFilter): void
  /** What the process started with. */
  readonly initial: LogFilter
}

/** Those of a program with one output, asked for when it starts. */
export function levelsOf(output: LogOutput): LogLevels {
  return {
    initial: output.filter,
    current: () => output.filter,
    set: filter => output.setFilter(filter)
  }
}

export function answerLogging(levels: LogLevels, request: Pick<AdminRequest, 'method' | 'query'>): Answer {
  if (request.method !== 'POST')
    return { status: 405, headers: { allow: 'POST' }, body: `Invalid HTTP method\n${usage}` }
  const reset = request.query.has('reset')
  const wanted = request.query.get('level')
  const unknown = [...request.query.keys()].find(key => key !== 'reset' && key !== 'level')
  if (unknown !== undefined) throw new HttpProblem(400, `${unknown} is no parameter\n${usage}`)
  if (reset || wanted !== null) {
    const base = reset ? levels.initial : levels.current()
    const filter = wanted === null || wanted === '' ? base : parseLogFilter(wanted, base)
    if (filter === undefined) throw new HttpProblem(400, `Invalid level name: ${wanted}\n${usage}`)
    levels.set(filter)
  }
  return { body: `current log level is ${formatLogFilter(levels.current())}\n` }
}
