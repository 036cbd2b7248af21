/**
 * Logs in the two forms that Istio's ztunnel writes, with levels by target that can change at run time.
 * The only file that imports pino; its asynchronous destination bounds what waits to be written.
 *
 * Plain: `<RFC 3339, µs, UTC>\t<level>\t<target>\t<message>\tkey=value …`; JSON: one object a line.
 */
import { pino } from 'pino'

export const levels = ['off', 'error', 'warn', 'info', 'debug', 'trace'] as const
export type Level = (typeof levels)[number]

export type Fields = Readonly<Record<string, string | number | boolean | Unquoted | undefined>>

/** A text that the plain form prints without quotes, as Istio's ztunnel prints addresses. JSON knows no difference. */
export class Unquoted {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  toJSON(): string {
    return this.text
  }
}

/** Where lines go; `write` must not block for long. */
export interface LineSink {
  write(line: string): void
}

export interface LogFilter {
  readonly fallback: Level
  readonly targets: ReadonlyMap<string, Level>
}

/** Reads `[target=]level,…` (a `:` in place of the `=` is taken too); undefined when a part is not a level. */
export function parseLogFilter(
  text: string,
  base: LogFilter = { fallback: 'info', targets: new Map() }
): LogFilter | undefined {
  let { fallback } = base
  const targets = new Map(base.targets)
  for (const part of text
    .split(',')
    .map(piece => piece.trim())
    .filter(Boolean)) {
    const [, target, levelText = ''] = /^(?:(.+?)[=:])?([a-zA-Z]+)$/.exec(part) ?? []
    const level = levels.find(name => name === levelText.toLowerCase())
    if (level === undefined) return undefined
    if (target === undefined) fallback = level
    else targets.set(target.replace(/^ztunnel::/, ''), level)
  }
  return { fallback, targets }
}

export function formatLogFilter(filter: LogFilter): string {
  return [...[...filter.targets].map(([target, level]) => `${target}=${level}`), filter.fallback].join(',')
}

/**
 * Level of a target: the longest configured prefix at a `::` boundary decides. All targets but `access` are below
 * `ztunnel`, whose name is left out of theirs.
 */
export function levelOf(filter: LogFilter, target: string): Level {
  for (let name = target; name !== ''; name = name.slice(0, Math.max(0, name.lastIndexOf('::')))) {
    const level = filter.targets.get(name)
    if (level !== undefined) return level
  }
  return (target === 'access' ? undefined : filter.targets.get('ztunnel')) ?? filter.fallback
}

export interface LoggerOptions {
  readonly filter: LogFilter
  readonly format: 'plain' | 'json'
  readonly sink?: LineSink
  readonly now?: () => number
}

/** One output shared by all loggers of a thread. */
export class LogOutput {
  readonly #options: LoggerOptions
  readonly #sink: LineSink
  readonly #loggers = new Map<string, Logger>()
  #filter: LogFilter

  constructor(options: LoggerOptions) {
    this.#options = options
    this.#filter = options.filter
    this.#sink = options.sink ?? standardOutput()
  }

  get filter(): LogFilter {
    return this.#filter
  }

  setFilter(filter: LogFilter): void {
    this.#filter = filter
    for (const logger of this.#loggers.values()) logger.setLevel(levelOf(filter, logger.target))
  }

  logger(target: string): Logger {
    const known = this.#loggers.get(target)
    if (known !== undefined) return known
    const logger = new Logger(target, levelOf(this.#filter, target), this.#emit)
    this.#loggers.set(target, logger)
    return logger
  }

  readonly #emit = (level: Level, target: string, message: string, fields: Fields | undefined): void => {
    const time = timestamp((this.#options.now ?? Date.now)())
    const line =
      this.#options.format === 'json'
        ? jsonLine(time, level, target, message, fields)
        : plainLine(time, level, target, message, fields)
    this.#sink.write(line)
  }
}

export class Logger {
  readonly target: string
  readonly #emit: (level: Level, target: string, message: string, fields: Fields | undefined) => void
  #threshold: number

  constructor(
    target: string,
    level: Level,
    emit: (level: Level, target: string, message: string, fields: Fields | undefined) => void
  ) {
    this.target = target
    this.#threshold = levels.indexOf(level)
    this.#emit = emit
  }

  setLevel(level: Level): void {
    this.#threshold = levels.indexOf(level)
  }

  enabled(level: Level): boolean {
    return levels.indexOf(level) <= this.#threshold
  }

  error(message: string, fields?: Fields): void {
    if (this.#threshold >= 1) this.#emit('error', this.target, message, fields)
  }

  warn(message: string, fields?: Fields): void {
    if (this.#threshold >= 2) this.#emit('warn', this.target, message, fields)
  }

  info(message: string, fields?: Fields): void {
    if (this.#threshold >= 3) this.#emit('info', this.target, message, fields)
  }

  debug(message: string, fields?: Fields): void {
    if (this.#threshold >= 4) this.#emit('debug', this.target, message, fields)
  }

  trace(message: string, fields?: Fields): void {
    if (this.#threshold >= 5) this.#emit('trace', this.target, message, fields)
  }
}

/** A logger that says nothing, for callers that have none. */
export const silent = new Logger('silent', 'off', () => undefined)

/**
 * Standard output, written in the background. Lines that wait take at most 4 MiB; beyond that they are
 * dropped, so that a full disk or a stuck reader never stops traffic.
 */
export function standardOutput(): LineSink {
  const destination = pino.destination({ dest: 1, sync: false, minLength: 0, maxLength: 4 << 20 })
  destination.on('error', () => undefined) // a full disk must not end the process; the lines are lost
  return destination
}

function plainLine(
  time: string,
  level: Level,
  target: string,
  message: string,
  fields: Fields | undefined
): string {
  // As Istio's ztunnel has it, a line without a message has no place for one.
  let line = `${time}\t${level}\t${target}${message === '' ? '' : `\t${oneLine(message)}`}`
  let separator = '\t'
  for (const key in fields) {
    const value = fields[key]
    if (value === undefined) continue
    line += `${separator}${key}=${plainValue(value)}`
    separator = ' '
  }
  return `${line}\n`
}

/** Quotes come back where a text could be taken for the start of another field or line: peers choose some of them. */
function plainValue(value: string | number | boolean | Unquoted): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (!(value instanceof Unquoted)) return String(value)
  return /^[\w.:/[\]%-]+$/.test(value.text) ? value.text : JSON.stringify(value.text)
}

function jsonLine(
  time: string,
  level: Level,
  scope: string,
  message: string,
  fields: Fields | undefined
): string {
  return `${JSON.stringify({ level, time, scope, ...(message !== '' && { message }), ...fields })}\n`
}

function oneLine(text: string): string {
  return text.includes('\n') ? text.replaceAll('\n', '\\n') : text
}

function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, -1)}000Z`
}
