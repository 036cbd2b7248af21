/** Logs of the mesh's own pods, read through the API server. */
import type { KubeClient } from '../shared/kube/client.ts'
import { createInterface } from 'node:readline'

export interface LogQuery {
  readonly namespace: string
  readonly pod: string
  /** Only when the pod has several. */
  readonly container?: string | undefined
  readonly follow?: boolean
  /** Of the run before the last start. */
  readonly previous?: boolean
  readonly sinceSeconds?: number | undefined
  readonly tailLines?: number | undefined
}

export interface LogLine {
  /** RFC 3339 with nanoseconds, as the node wrote it down. */
  readonly time: string
  readonly text: string
}

/** Lines as they come, until the log ends or the signal aborts. */
export async function* readLog(
  client: KubeClient,
  query: LogQuery,
  signal: AbortSignal
): AsyncGenerator<LogLine> {
  const { namespace, pod, container, follow, previous, sinceSeconds, tailLines } = query
  const parameters = Object.entries({
    container,
    follow,
    previous,
    sinceSeconds,
    tailLines,
    timestamps: true
  })
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name, value]): [string, string] => [name, String(value)])
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}/log?${new URLSearchParams(parameters).toString()}`
  const body = await client.stream(path, `get pods/log in namespace ${namespace}`, signal)
  try {
    for await (const line of createInterface({ input: body, crlfDelay: Infinity })) yield splitLine(line)
  } catch (error) {
    if (!signal.aborted) throw error // the user had enough of it
  } finally {
    body.destroy()
  }
}

export function splitLine(line: string): LogLine {
  const [, time, text] = /^(\d{4}-\d\d-\d\dT\S+) (.*)$/.exec(line) ?? []
  return time === undefined ? { time: '', text: line } : { time, text: text ?? '' }
}
