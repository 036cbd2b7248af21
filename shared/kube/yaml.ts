/** YAML as values. The only file that imports `yaml`, which takes a while to load: import this file when needed. */
import { parseAllDocuments, stringify as write, type Document } from 'yaml'

/** Text that is not YAML; the message starts with `<name>:<line>:<column>`. */
export class YamlError extends Error {
  constructor(name: string, position: string, problem: string) {
    super(`${name}${position}: ${problem}`)
    this.name = 'YamlError'
  }
}

/** One document. Throws a {@link YamlError} when there is none, or more than one. */
export function parseYaml(text: string, name = 'YAML'): unknown {
  const documents = parseAllYaml(text, name)
  if (documents.length !== 1)
    throw new YamlError(name, '', `expected one document, found ${documents.length}`)
  return documents[0]?.value
}

export interface YamlDocument {
  readonly value: unknown
  /** The line on which the document's content starts, from 1. */
  readonly line: number
}

/** All documents that are not empty. JSON is YAML too. Throws a {@link YamlError}. */
export function parseAllYaml(text: string, name = 'YAML'): readonly YamlDocument[] {
  const parsed = parseAllDocuments(text, { uniqueKeys: true, prettyErrors: true, logLevel: 'silent' })
  if (!Array.isArray(parsed)) return []
  return parsed.flatMap((document: Document.Parsed): YamlDocument[] => {
    const [error] = document.errors
    if (error !== undefined) {
      const at = error.linePos?.[0]
      const position = at === undefined ? '' : `:${at.line}:${at.col}`
      throw new YamlError(name, position, firstLine(error.message))
    }
    const line = lineOf(text, document.contents?.range[0] ?? 0)
    const value = toValue(document, name, line)
    return value === null ? [] : [{ value, line }]
  })
}

export function stringifyYaml(value: unknown): string {
  return write(value, { lineWidth: 0, aliasDuplicateObjects: false })
}

function toValue(document: Document.Parsed, name: string, line: number): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    // thrown for aliases that do not exist and for those that would multiply without end
    throw new YamlError(name, `:${line}`, error instanceof Error ? error.message : String(error))
  }
}

function firstLine(text: string): string {
  return (text.split('\n')[0] ?? text).replace(/ at line \d+, column \d+:?$/, '')
}

function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}
