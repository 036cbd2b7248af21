/** Fetches what is pinned by its digest, once: the cache lies in `node_modules/.cache/underpass`. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export const cache = path.resolve(import.meta.dirname, '../../node_modules/.cache/underpass')

export interface Pinned {
  /** Where the file is served; tried in this order. */
  readonly urls: readonly string[]
  /** Hexadecimal SHA-256 of the whole file. */
  readonly sha256: string
}

/** Resolves to the path of the file in the cache. Rejects when no place serves the pinned bytes. */
export async function download({ urls, sha256 }: Pinned): Promise<string> {
  const file = path.join(cache, sha256)
  if (existsSync(file) && digestOf(readFileSync(file)) === sha256) return file
  const failures: string[] = []
  for (const url of urls) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(300_000) })
      if (!answer.ok) throw new Error(`answered ${answer.status}`)
      const body = Buffer.from(await answer.arrayBuffer())
      const digest = digestOf(body)
      if (digest !== sha256) throw new Error(`has digest ${digest}`)
      mkdirSync(cache, { recursive: true })
      writeFileSync(`${file}.${process.pid}`, body)
      renameSync(`${file}.${process.pid}`, file)
      return file
    } catch (error) {
      failures.push(`  ${url}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new Error(
    `nowhere found with SHA-256 ${sha256}:\n${failures.join('\n')}\n` +
      'when the file was replaced by a newer version: npm run image -- --pin, and commit scripts/image/debian.json'
  )
}

function digestOf(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex')
}
