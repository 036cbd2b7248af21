/** Reads access log lines (plain form) field by field. */
export interface AccessLine {
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, string>>
}

/** The lines of target `access` whose connection is over, in order. */
export function accessLines(log: readonly string[]): AccessLine[] {
  return log.flatMap(line => {
    const parsed = accessLine(line)
    return parsed === undefined ? [] : [parsed]
  })
}

function accessLine(line: string): AccessLine | undefined {
  const [, level = '', target = '', message = '', rest = ''] = line.split('\t')
  if (target !== 'access' || message === 'connection opened') return undefined
  const fields: Record<string, string> = {}
  for (const [, key = '', quoted, plain] of rest.matchAll(/([\w.]+)=(?:("(?:[^"\\]|\\.)*")|(\S+))/g)) {
    fields[key] = quoted === undefined ? (plain ?? '') : (JSON.parse(quoted) as string)
  }
  return { level, message, fields }
}

/** Samples of one metric from an exposition, labels as an object. */
export function samples(
  exposition: string,
  name: string
): { labels: Record<string, string>; value: number }[] {
  return exposition.split('\n').flatMap(line => {
    const [, metric, inside = '', value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    if (metric !== name) return []
    const labels = Object.fromEntries(
      [...inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', text = '']) => [key, text])
    )
    return [{ labels, value: Number(value) }]
  })
}
