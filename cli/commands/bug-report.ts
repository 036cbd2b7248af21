/** `underpass bug-report`: one archive of all that somebody else needs to see, without secrets. */
import { writeFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { parseDuration } from '../../shared/runtime/env.ts'
import { collect } from '../bug-report/collect.ts'
import { redactText } from '../bug-report/redact.ts'
import { tarOf, type TarEntry } from '../bug-report/tar.ts'
import { UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { clusterOptions, meshOptions } from '../options.ts'
import { command as check } from './check.ts'
import { command as status } from './status.ts'
import { command as version } from './version.ts'

export const command: LeafCommand = {
  name: 'bug-report',
  summary: 'one archive of all that somebody else needs to see, without secrets',
  description: `Collects versions, status and checks; the objects of the mesh and the policies of the cluster; logs; what each agent holds;
the capture rules of enrolled pods. Private keys, tokens and the contents of Secrets are taken out; names, addresses and
identities stay: look at it before you send it. What could not be collected stands in problems.txt.`,
  options: [
    { flags: '--file <file>', help: 'where to write it', fallback: 'underpass-bug-report.tar.gz' },
    { flags: '--since <duration>', help: 'only what was logged since, such as 1h' },
    { flags: '--tail <lines>', help: 'at most so many lines of each log', fallback: '20000' },
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'Everything', command: 'bug-report' },
    { what: 'With the logs of the last hour', command: 'bug-report --since 1h --file /tmp/report.tar.gz' }
  ],
  run
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const { io } = invocation
  const [since, tail = '20000'] = [invocation.text('since'), invocation.text('tail')]
  const sinceMs = since === undefined ? undefined : parseDuration(since)
  if (since !== undefined && sinceMs === undefined) {
    throw new UsageError(`--since ${JSON.stringify(since)}: expected a duration such as 1h`)
  }
  if (!/^\d{1,9}$/.test(tail))
    throw new UsageError(`--tail ${JSON.stringify(tail)}: expected a number of lines`)
  const file = invocation.text('file') ?? 'underpass-bug-report.tar.gz'
  const client = await invocation.client()
  const entries = [
    await outputOf(invocation, version),
    await outputOf(invocation, status),
    await outputOf(invocation, check),
    ...(await collect(invocation, client, {
      sinceSeconds: sinceMs === undefined ? undefined : Math.max(1, Math.ceil(sinceMs / 1000)),
      tailLines: Number(tail)
    }))
  ]
  const archive = gzipSync(tarOf(entries, io.now()))
  await writeFile(file, archive, { mode: 0o600 })
  const problems = entries.find(({ path }) => path === 'problems.txt')?.content ?? ''
  io.out(
    `${file}: ${entries.length} files, ${(archive.length / 1024).toFixed(0)} KiB; look at it before you send it\n`
  )
  if (problems === '') return 0
  io.err(`warning: not collected:\n${problems}`)
  return 3
}

/** What another command would have printed. */
async function outputOf(invocation: Invocation, { name, run }: LeafCommand): Promise<TarEntry> {
  let text = ''
  const take = (piece: string): void => {
    text += piece
  }
  try {
    await run({ ...invocation, paint: (_, plain) => plain, io: { ...invocation.io, out: take, err: take } })
  } catch (error) {
    invocation.io.signal.throwIfAborted()
    text += `failed: ${String(error)}\n`
  }
  return { path: `${name}.txt`, content: redactText(text) }
}
