/** What every program answers to `/logging`. */
import t from 'tap'
import { HttpProblem } from '../../../shared/runtime/admin-http.ts'
import { answerLogging, levelsOf } from '../../../shared/telemetry/log-levels.ts'
import { LogOutput, parseLogFilter } from '../../../shared/telemetry/logger.ts'

function program(): { readonly output: LogOutput; readonly ask: (query: string, method?: string) => string } {
  const filter = parseLogFilter('info,xds=warn') ?? { fallback: 'off', targets: new Map() }
  const output = new LogOutput({ filter, format: 'plain', sink: { write: () => undefined } })
  const levels = levelsOf(output)
  return {
    output,
    ask: (query, method = 'POST') => {
      try {
        const { status = 200, body } = answerLogging(levels, { method, query: new URLSearchParams(query) })
        return `${status} ${String(body)}`
      } catch (error) {
        if (error instanceof HttpProblem) return `${error.status} ${error.message}`
        throw error
      }
    }
  }
}

t.test('levels are told, changed and taken back', async t => {
  const { output, ask } = program()
  t.equal(ask(''), '200 current log level is xds=warn,info\n')
  t.equal(ask('level=debug'), '200 current log level is xds=warn,debug\n')
  t.equal(ask('level=http=error,xds:trace'), '200 current log level is xds=trace,http=error,debug\n')
  t.ok(output.logger('xds').enabled('trace'), 'and loggers heed it')
  t.equal(ask('reset'), '200 current log level is xds=warn,info\n', 'the start, not the default')
  t.notOk(output.logger('xds').enabled('info'))
  ask('level=trace')
  t.equal(ask('level=off&reset'), '200 current log level is xds=warn,off\n')
})

t.test('what is not understood is refused with the usage, and changes nothing', async t => {
  const { ask } = program()
  t.match(ask('level=loud'), /^400 Invalid level name: loud\nusage: POST \/logging/)
  t.match(ask('levels=debug'), /^400 levels is no parameter\nusage: /)
  t.match(ask('level=debug', 'GET'), /^405 Invalid HTTP method\nusage: /)
  t.equal(ask(''), '200 current log level is xds=warn,info\n')
})
