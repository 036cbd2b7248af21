/**
 * `npm run soak`: what shows only after a while, or in the large. Needs root.
 *
 *   npm run soak [-- --minutes 10] [--only load,churn] [--workloads 100000] [--record]
 *
 * `load`: how our ztunnel, and the Rust one where the folder UNDERPASS_PEERS has it, take a large mesh from the same
 * control plane. `churn`: one ztunnel for so many minutes under pods that come and go, connections, policies and
 * certificates; ends with 1 when something leaked or one answer was wrong. `--record` writes docs/soak.md.
 */
import { parseArgs } from 'node:util'
import { endInOrder, interrupted } from '../bench/interrupt.ts'
import { writeMeasured } from '../bench/marked-text.ts'
import { peerProgram } from '../support/two-nodes.ts'
import { churn } from './churn.ts'
import { loadTable } from './load.ts'
import { verdictOf, type Verdict } from './verdict.ts'

const parts = ['load', 'churn']
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    workloads: { type: 'string', default: '100000' },
    only: { type: 'string', default: parts.join() },
    record: { type: 'boolean', default: false }
  }
})
const [minutes, workloads] = [Number(values.minutes), Number(values.workloads)]
const only = new Set(values.only.split(','))
if (!(minutes > 0) || !(workloads >= 1000) || [...only].some(part => !parts.includes(part))) {
  process.stderr.write('soak: --minutes is above 0, --workloads at least 1000, --only is of load,churn\n')
  process.exit(2)
}
if (values.record && only.size < parts.length) {
  process.stderr.write('soak: --record keeps whole runs: leave out --only\n')
  process.exit(2)
}
endInOrder()

const kinds = 'path' in peerProgram('ztunnel') ? (['underpass', 'rust'] as const) : (['underpass'] as const)
const told: string[] = []
if (only.has('load'))
  tell(await withTeardown(t => loadTable(t, { workloads, services: workloads / 20, kinds })))
if (only.has('churn') && !interrupted.aborted) {
  const verdict: Verdict = verdictOf(await withTeardown(t => churn(t, minutes, interrupted)))
  tell(verdict.text)
  if (!verdict.passed) process.exitCode = 1
}
if (values.record && !interrupted.aborted) writeMeasured('soak.md', told.join('\n\n'))

function tell(text: string): void {
  told.push(text)
  process.stdout.write(`${text}\n\n`)
}

/** Runs what makes things, then removes what it made, last made first, however it ended. */
async function withTeardown<T>(run: (t: { teardown(undo: () => unknown): void }) => Promise<T>): Promise<T> {
  await using made = new AsyncDisposableStack()
  return await run({ teardown: undo => made.defer(async () => void (await undo())) })
}
